"use strict";
// A placeholder: it shows the lines and sends messages, without resuming.
const log = document.getElementById("log");
const url = new URL("room", location.href);
url.protocol = url.protocol.replace("http", "ws");
const socket = new WebSocket(url);
let number = 0;
socket.onopen = () => socket.send(JSON.stringify({ session: null, seen: 0 }));
socket.onmessage = (event) => {
  for (const [, text, unfinished] of JSON.parse(event.data).lines || []) {
    if (!unfinished) log.append(text + "\n");
  }
};
document.getElementById("form").onsubmit = (event) => {
  event.preventDefault();
  const input = document.getElementById("text");
  socket.send(JSON.stringify({ n: ++number, say: input.value }));
  input.value = "";
};
