# A room in a container. docs/service.md explains how to build and run it.

# The image python:3.13 contains a C compiler; the slim image does not.
FROM python:3.13 AS build
ENV CHATROOM_COMPILE=1
WORKDIR /src
COPY . .
RUN python -m venv --without-pip /opt/chatroom
RUN pip --python /opt/chatroom/bin/python install --no-cache-dir --no-deps .

# The final image adds only the installed package to the Python image.
FROM python:3.13-slim
COPY --from=build /opt/chatroom /opt/chatroom
ENV PATH=/opt/chatroom/bin:$PATH
# The run-dir must belong to the user that runs the room. No other user may have access to it.
RUN install --directory --owner=10001 --group=10001 --mode=0700 /run/chatroom
USER 10001:10001
EXPOSE 4000
HEALTHCHECK --interval=30s --timeout=10s --start-period=10s CMD ["python", "-m", "chatroom.status", "--run-dir", "/run/chatroom"]
ENTRYPOINT ["chatroom", "--run-dir", "/run/chatroom"]
CMD ["--quiet", "0.0.0.0", "4000"]
