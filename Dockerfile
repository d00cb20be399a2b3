# A room in a container. How to build and run it: docs/service.md.

FROM python:3.13-slim AS build
WORKDIR /src
COPY . .
RUN python -m venv --without-pip /opt/chatroom
RUN pip --python /opt/chatroom/bin/python install --no-cache-dir --no-deps .

# Nothing but the package itself is added to the image of Python.
FROM python:3.13-slim
COPY --from=build /opt/chatroom /opt/chatroom
ENV PATH=/opt/chatroom/bin:$PATH
# The folder by which the room is found has to be its user's alone.
RUN install --directory --owner=10001 --group=10001 --mode=0700 /run/chatroom
USER 10001:10001
EXPOSE 4000
HEALTHCHECK --interval=30s --timeout=10s --start-period=10s CMD ["python", "-m", "chatroom.status", "--run-dir", "/run/chatroom"]
ENTRYPOINT ["chatroom", "--run-dir", "/run/chatroom"]
CMD ["--quiet", "0.0.0.0", "4000"]
