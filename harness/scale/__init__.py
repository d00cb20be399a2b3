"""``python -m harness scale``: work out the machines that a large room needs, from measured costs.

In reading order; all modules are pure:

- `costs`    the costs of a turn, a line, a delivery, a publication …, fitted to measured points
- `room`     a simulation of a room's processes: workers, bridges, the engine, the load generator
- `points`   the measured points, from the files that ``harness bench --json`` writes, and the same
             points in the simulation
- `plan`     nodes, cores, memory and network for a number of members and a rate of messages

The simulation counts what the processes do for each line: turns, sends, bytes, publications. The
costs of these are fitted to the measured processor time per line, in which the counts are the
features. So the counts come from the simulation, the costs from the measurement, and the error of
both together is the difference between the simulated and the measured points.
"""
