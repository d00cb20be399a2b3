"""``python -m harness scale``: compute the machines that a large room needs, from measured costs.

The modules, in reading order. All except `sockets` are pure:

- `costs`    the costs of a turn, a line, a delivery, a publication and so on, and their fit
- `room`     a simulation of a room's processes: workers, bridges, the engine, the load generator
- `points`   the measured points, from the files that ``harness bench --json`` writes, the same
             points in the simulation, and the fit of the costs to them
- `plan`     nodes, cores, memory and network for a number of members and a rate of lines
- `sockets`  a program that measures the kernel's memory for each socket

The simulation counts the work of the processes for each line: turns, sends, bytes, publications. A
least-squares fit of these counts to the measured processor times per line gives the cost of each
kind of work. The counts come from the simulation, and the costs from the measurement. The
difference between the simulated and the measured points is the error of simulation and fit.
"""
