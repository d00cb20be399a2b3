// The page of the room, without libraries and without a build step.
//
//   1. Text      pure functions: a line's sender and name, links, mentions, names, colours
//   2. Storage   what a reload must not lose
//   3. Link      the protocol between page and gateway (docs/web.md)
//   4. List      the messages; the document holds a small part of them
//   5. Page      controls, notifications, keys
//
// Text from the room enters the document only as text (textContent), never as HTML.

// --- 1. Text -------------------------------------------------------------------------------------

const PREFIX = /^<([^<>\s]{1,64})>/u;
const NAME = /^([\p{L}\p{N}\p{Extended_Pictographic}_@][^:<>\p{Cc}]{0,31}): (.*)$/su;
const NAME_LENGTH = 24; // characters
const NAME_WORDS = 3; // a longer text before a colon is a sentence, not a name
const PIECE = 2000; // UTF-16 units: at most 6,000 bytes, below the room's limit (LINE-7)

/** Return the kind of a line of the room, its sender's address, the name before the text, the text. */
export function parseLine(line) {
  const prefix = PREFIX.exec(line);
  if (!prefix) return { kind: "plain", from: "", name: "", text: line };
  const text = line.slice(prefix[0].length);
  if (prefix[1] === "room") return { kind: "room", from: "", name: "", text };
  const named = NAME.exec(text);
  const is = named && named[1] === cleanName(named[1]);
  return { kind: "say", from: prefix[1], name: is ? named[1] : "", text: is ? named[2] : text };
}

/** Return what a person typed as a name that `parseLine` finds again, or "". */
export function cleanName(typed) {
  const words = typed
    .normalize("NFC")
    .replace(/[<>:\p{Cc}\p{Cs}\u2028\u2029]/gu, " ")
    .replace(/^[^\p{L}\p{N}\p{Extended_Pictographic}_@]+/u, "")
    .split(/\s+/u)
    .filter(Boolean);
  return [...words.slice(0, NAME_WORDS).join(" ")].slice(0, NAME_LENGTH).join("").trim();
}

/** Return the messages for a text that was typed or pasted: one for each line, without empty lines. */
export function messages(typed) {
  const found = [];
  for (let line of typed.split(/\r\n|\r|\n/u)) {
    line = line.trimEnd();
    while (line.length > PIECE) {
      let cut = line.lastIndexOf(" ", PIECE) + 1 || PIECE;
      if (/[\ud800-\udbff]/.test(line[cut - 1])) cut -= 1; // not inside a character
      found.push(line.slice(0, cut));
      line = line.slice(cut);
    }
    if (line) found.push(line);
  }
  return found;
}

/** Return a text as parts {text, href}; href is "" for what is not a link. */
export function splitLinks(text) {
  const parts = [];
  let done = 0;
  for (const found of text.matchAll(/(?<![\p{L}\p{N}])https?:\/\/[^\s<>"]+/giu)) {
    let link = found[0];
    for (;;) {
      const last = link.at(-1);
      const open = { ")": "(", "]": "[", "}": "{" }[last];
      const unbalanced = open && link.split(last).length > link.split(open).length;
      if (!unbalanced && !/[.,;:!?'*_~…»”’]/u.test(last)) break;
      link = link.slice(0, -last.length);
    }
    if (!URL.canParse(link)) continue;
    if (found.index > done) parts.push({ text: text.slice(done, found.index), href: "" });
    parts.push({ text: link, href: new URL(link).href });
    done = found.index + link.length;
  }
  if (done < text.length) parts.push({ text: text.slice(done), href: "" });
  return parts;
}

const escaped = (text) => text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");

/** Return a pattern of a name as a whole word, or null. */
function namePattern(name) {
  return name && new RegExp(`(?<![\\p{L}\\p{N}_])@?${escaped(name)}(?![\\p{L}\\p{N}_])`, "giu");
}

/** Return whether a text mentions a name, as a whole word in any case. */
export function mentions(text, name) {
  return Boolean(name) && text.search(namePattern(name)) >= 0;
}

/** Return a text as parts {text, hit}; hit is true where the pattern matches. */
export function splitHits(text, pattern) {
  const parts = [];
  let done = 0;
  for (const found of pattern ? text.matchAll(pattern) : []) {
    if (!found[0]) continue;
    if (found.index > done) parts.push({ text: text.slice(done, found.index), hit: false });
    parts.push({ text: found[0], hit: true });
    done = found.index + found[0].length;
  }
  if (done < text.length) parts.push({ text: text.slice(done), hit: false });
  return parts;
}

/** Return the words of a search, in lower case. */
export function searchWords(typed) {
  return typed.toLowerCase().split(/\s+/u).filter(Boolean);
}

/** Return the colour of an address, as an angle from 0 to 359. Neighbours differ. */
export function hue(address) {
  let hash = 0x811c9dc5; // FNV-1a
  for (const unit of address) hash = Math.imul(hash ^ unit.codePointAt(0), 0x01000193) >>> 0;
  return Math.floor((hash * 137.508) % 360); // the golden angle
}

/** Return one or two characters that stand for a sender. */
export function initials(name, from) {
  if (name) {
    const all = new Intl.Segmenter().segment(name.replace(/^[@_]+/u, "") || name);
    return all[Symbol.iterator]().next().value.segment.toLocaleUpperCase();
  }
  return from.split(/[.:#]/u).at(-1).slice(-3) || "·";
}

const EMOJI = /^(?:[\p{Extended_Pictographic}\p{Emoji_Modifier}\u{1f1e6}-\u{1f1ff}\u200d\ufe0f\s]){1,20}$/u;

/** Return whether a text is a few emoji and nothing else. */
export function isEmoji(text) {
  return EMOJI.test(text) && /\S/.test(text) && [...new Intl.Segmenter().segment(text)].length <= 5;
}

// --- 2. Storage ----------------------------------------------------------------------------------

const KEY = `chatroom ${location.pathname}`;
const SAVED_LINES = 1000;
const SAVED_SIZE = 400_000; // characters; browsers allow about 5 million

function read(storage, key) {
  try {
    return JSON.parse(window[storage].getItem(key));
  } catch {
    return null; // storage is off, or holds something else
  }
}

/** Return whether the value is stored. */
function write(storage, key, value) {
  try {
    window[storage].setItem(key, JSON.stringify(value));
    return true;
  } catch {
    return false; // storage is off, or full
  }
}

const settings = { name: "", notify: false, sound: false, theme: "", ...read("localStorage", "chatroom") };

// --- 3. Link -------------------------------------------------------------------------------------

const RETRY = { first: 300, most: 15_000 }; // ms between two attempts
const OPEN_WITHIN = 10_000; // ms for the whole opening
const ANSWER_WITHIN = 20_000; // ms within which a sent message is confirmed
const SAVE_EVERY = 1000; // ms
const LONG_AWAY = 5000; // ms; a shorter cut leaves no mark

/** The session with the gateway. It outlives its WebSocket, and a reload.
 *
 * `own`: the messages that are not confirmed: {n, wire, state: "wait" (never sent) or "sent"}.
 */
class Link {
  constructor(on) {
    this.on = on;
    this.session = null;
    this.seen = 0; // number of the last complete line
    this.saved = 0; // `seen` in the last {"seen"} frame
    this.next = 1; // number of the next message
    this.own = [];
    this.ready = false;
    this.reason = ""; // the gateway closed the session, and why
    this.again = false; // this session is not the page's first
    this.away = Date.now(); // since when the page has no connection
    this.heard = 0;
    this.tries = 0;
    this.socket = null;
    this.timer = 0;
  }

  connect() {
    this.drop();
    this.reason = "";
    this.on.state();
    const url = new URL("room", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = new WebSocket(url);
    this.socket = socket;
    socket.onopen = () => socket.send(JSON.stringify({ session: this.session, seen: this.seen }));
    socket.onmessage = (event) => this.hear(JSON.parse(event.data));
    socket.onclose = () => this.lost();
    this.timer = setTimeout(() => this.lost(), OPEN_WITHIN);
  }

  /** Let go of the socket, also of one that would take minutes to notice that its network is gone. */
  drop() {
    clearTimeout(this.timer);
    if (this.ready) this.away = Date.now();
    this.ready = false;
    if (!this.socket) return;
    this.socket.onopen = this.socket.onmessage = this.socket.onclose = null;
    this.socket.close();
    this.socket = null;
  }

  /** Note that the connection is gone, and try again soon. */
  lost() {
    this.drop();
    if (!this.reason) {
      const wait = Math.min(RETRY.first * 2 ** this.tries++, RETRY.most);
      this.timer = setTimeout(() => this.connect(), wait * (0.5 + Math.random() / 2));
    }
    this.on.state();
  }

  /** Try at once: the network is back, or somebody looks at the page. */
  hurry() {
    if (this.ready || this.reason) return;
    this.tries = 0;
    this.connect();
  }

  hear(frame) {
    this.heard = Date.now();
    if (frame.session) this.resume(frame);
    if (frame.lines) this.on.lines(frame.lines);
    if (frame.said !== undefined) this.confirm(frame.said);
    if (frame.closed) {
      this.reason = frame.closed;
      this.lost();
      this.session = null;
      this.on.dirty();
    }
  }

  /** Take the gateway's first frame, which says what it knows of the session. */
  resume({ session, said, missed }) {
    clearTimeout(this.timer);
    const away = Date.now() - this.away;
    if (session === this.session) {
      this.confirm(said);
      this.seen += missed;
      this.next = Math.max(this.next, said + 1);
    } else {
      const doubtful = this.own.filter((message) => message.state === "sent");
      this.own = this.own.filter((message) => message.state === "wait");
      this.own.forEach((message, at) => (message.n = at + 1));
      this.next = this.own.length + 1;
      this.seen = this.saved = 0;
      for (const message of doubtful) this.on.doubt(message);
    }
    this.on.resumed({ same: session === this.session, first: !this.again, away, missed });
    this.session = session;
    this.again = true;
    this.tries = 0;
    this.ready = true;
    this.flush(this.own);
    this.on.state();
  }

  /** Take messages that are to be sent now, or as soon as there is a connection. */
  say(list) {
    for (const message of list) {
      message.n = this.next++;
      message.state = "wait";
      this.own.push(message);
    }
    this.flush(list);
  }

  flush(list) {
    if (this.ready) for (const message of list) message.state = "sent";
    this.on.dirty(true); // stored before it is sent: a reload sends it once
    if (!this.ready) return;
    for (const { n, wire } of list) this.socket.send(JSON.stringify({ n, say: wire }));
    this.asked = Date.now();
  }

  confirm(said) {
    while (this.own.length && this.own[0].n <= said) this.on.said(this.own.shift());
  }

  /** Tell the gateway what is stored here, so that it may forget it. */
  acknowledge() {
    if (!this.ready || this.seen === this.saved) return;
    this.saved = this.seen;
    this.socket.send(JSON.stringify({ seen: this.seen }));
  }

  /** Notice a connection that is gone without a word. `slept`: no timer ran for a while. */
  check(slept) {
    const last = Math.max(this.heard, this.asked ?? 0);
    const silent = this.own.length > 0 && Date.now() - last > ANSWER_WITHIN;
    if (this.ready && (slept || silent)) this.connect();
  }
}

// --- 4. List -------------------------------------------------------------------------------------

const KEPT = 20_000; // lines in memory
const ROWS = 200; // rows in the document, about; at most twice as many
const STEP = 80; // rows to add at once while somebody scrolls
const NEAR = 800; // pixels
const GROUP = 5 * 60_000; // ms; after a pause, a sender's name and the time are shown again

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const date = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long", year: "numeric" });
const day = (time) => new Date(time).toDateString();

function el(tag, kind = "", text = "") {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  if (text) made.textContent = text;
  return made;
}

/** The messages. An item is {kind, at, text} and, by kind:
 *
 *   say      another's message: from, name; `call`: it mentions this page's name
 *   own      n, wire, name, state: wait, sent, said or doubt
 *   welcome, room, gap (a notice of the page)
 *
 * The document holds the rows of view[from] to view[to - 1]. `view` is all items, or those found.
 */
class List {
  constructor(log, on) {
    this.log = log;
    this.on = on;
    this.items = [];
    this.view = this.items;
    this.rows = new Map(); // item → row
    this.from = this.to = 0;
    this.follow = true; // the end is in sight, and stays so
    this.below = 0; // messages that arrived below what is in sight
    this.mark = null; // first item that is new since somebody looked
    this.words = []; // of the search
    this.drawing = false;
    log.addEventListener("scroll", () => this.scrolled(), { passive: true });
    new ResizeObserver(() => this.follow && this.toEnd()).observe(log);
  }

  add(item) {
    this.items.push(item);
    if (this.words.length && this.matches(item)) this.view.push(item);
    if (!this.follow && item.kind !== "own") this.below += 1;
    if (this.items.length > KEPT * 1.1) this.forget();
    this.later();
  }

  forget() {
    const gone = this.items.splice(0, this.items.length - KEPT);
    if (this.view !== this.items) return;
    for (const item of gone) this.remove(item);
    this.from = Math.max(0, this.from - gone.length);
    this.to = Math.max(0, this.to - gone.length);
  }

  /** Draw once a frame, however much arrives. */
  later() {
    if (this.drawing) return;
    this.drawing = true;
    requestAnimationFrame(() => {
      this.drawing = false;
      this.draw();
    });
  }

  draw() {
    if (this.follow) {
      if (this.view.length - this.to > ROWS) this.place(this.view.length - ROWS, this.view.length);
      else this.append(this.view.length);
      if (this.to - this.from > 2 * ROWS) this.cutTop();
      this.toEnd();
    } else this.fill();
    this.on.moved();
  }

  /** Show these rows and no others. */
  place(from, to) {
    this.log.replaceChildren();
    this.rows.clear();
    this.from = this.to = Math.max(0, from);
    this.append(Math.min(to, this.view.length));
  }

  append(to) {
    const part = document.createDocumentFragment();
    while (this.to < to) part.append(this.row(this.to++));
    this.log.append(part);
  }

  remove(item) {
    this.rows.get(item)?.remove();
    this.rows.delete(item);
  }

  cutTop() {
    const height = this.log.scrollHeight;
    const top = this.log.scrollTop;
    while (this.to - this.from > ROWS) this.remove(this.view[this.from++]);
    this.log.scrollTop = top - (height - this.log.scrollHeight);
  }

  /** Add rows where the edge of those in the document comes near. */
  fill() {
    const { log } = this;
    if (log.scrollTop < NEAR && this.from > 0) {
      const rest = log.scrollHeight - log.scrollTop;
      const part = document.createDocumentFragment();
      const from = Math.max(0, this.from - STEP);
      for (let at = from; at < this.from; at++) part.append(this.row(at));
      this.from = from;
      log.prepend(part);
      log.scrollTop = log.scrollHeight - rest;
      while (this.to - this.from > 2 * ROWS) this.remove(this.view[--this.to]);
    }
    if (this.rest() < NEAR && this.to < this.view.length) {
      this.append(Math.min(this.to + STEP, this.view.length));
      if (this.to - this.from > 2 * ROWS) this.cutTop();
    }
  }

  rest() {
    return this.log.scrollHeight - this.log.clientHeight - this.log.scrollTop;
  }

  scrolled() {
    this.follow = this.to === this.view.length && this.rest() < 40;
    if (!this.follow) this.fill();
    this.on.moved();
  }

  toEnd() {
    this.follow = true;
    this.below = 0;
    if (this.to < this.view.length) this.place(this.view.length - ROWS, this.view.length);
    this.log.scrollTop = this.log.scrollHeight;
    this.on.moved();
  }

  /** Bring an item into sight, in the upper part of the window. */
  show(item) {
    const at = this.view.indexOf(item);
    if (at < 0) return null;
    if (at < this.from || at >= this.to) this.place(at - ROWS / 2, at + ROWS);
    const row = this.rows.get(item);
    this.log.scrollTop += row.getBoundingClientRect().top - this.log.getBoundingClientRect().top - this.log.clientHeight / 5;
    this.scrolled();
    return row;
  }

  /** Draw an item again that has changed. */
  renew(item) {
    const old = this.rows.get(item);
    if (!old) return;
    old.replaceWith(this.row(this.view.indexOf(item, this.from)));
    if (this.follow) this.later();
  }

  setMark(item) {
    const old = this.mark;
    this.mark = item;
    if (old) this.renew(old);
    this.renew(item);
  }

  // --- search ---

  matches({ kind, name, from, text }) {
    const all = `${name ?? ""} ${from ?? ""} ${text}`.toLowerCase();
    return kind !== "gap" && this.words.every((word) => all.includes(word));
  }

  search(words) {
    this.words = words;
    this.view = words.length ? this.items.filter((item) => this.matches(item)) : this.items;
    this.hits = words.length ? new RegExp(words.map(escaped).join("|"), "giu") : null;
    this.place(this.view.length - ROWS, this.view.length);
    if (words.length && !this.view.length) this.log.append(el("p", "none", "No message has these words."));
    this.toEnd();
  }

  // --- rows ---

  row(at) {
    const item = this.view[at];
    const before = this.view[at - 1];
    const row = el("div", "row");
    const newDay = !before || day(before.at) !== day(item.at);
    const isMark = item === this.mark && !this.words.length;
    if (newDay) row.append(el("div", "rule", date.format(item.at)));
    if (isMark) row.append(el("div", "rule new", "New since you left"));
    const first = newDay || isMark || this.words.length > 0 || before.kind !== item.kind || before.from !== item.from || before.name !== item.name || item.at - before.at > GROUP;
    row.append(item.kind === "say" || item.kind === "own" ? this.line(item, first) : this.notice(item));
    row.item = item;
    this.rows.set(item, row);
    return row;
  }

  notice(item) {
    const notice = el("div", `notice ${item.kind}`);
    notice.append(this.text(item));
    return notice;
  }

  line(item, first) {
    const own = item.kind === "own";
    const line = el("div", `line ${item.kind}`);
    const { classList } = line;
    const waits = own && (item.state === "wait" || (item.state === "sent" && !this.on.ready()));
    classList.toggle("first", first);
    classList.toggle("call", Boolean(item.call));
    classList.toggle("big", isEmoji(item.text));
    classList.toggle("waits", waits || item.state === "doubt");
    if (!own) line.style.setProperty("--hue", hue(item.from));

    const sender = own ? "You" : item.name || item.from;
    const time = el("time", "", clock.format(item.at));
    time.dateTime = new Date(item.at).toISOString();
    if (first) {
      const who = el("div", "who");
      const name = el("b", own ? "sr" : "", sender);
      name.dir = "auto";
      who.append(name, " ");
      if (item.name && !own) who.append(el("span", "from", item.from), " ");
      who.append(time);
      if (!own) {
        const disc = el("div", "disc", initials(item.name, item.from));
        disc.ariaHidden = "true";
        line.append(disc);
      }
      line.append(who);
    } else {
      time.ariaHidden = "true";
      line.append(time, el("span", "sr", `${sender}: `));
    }
    line.append(this.text(item));
    if (waits) line.append(el("p", "note", "Waits for the connection"));
    if (item.state === "doubt") {
      const again = el("button", "more again", "Send again");
      const note = el("p", "note", "May not have arrived");
      note.append(again);
      line.append(note);
    }
    if (this.words.length) {
      const note = el("p", "note found");
      const show = el("button", "more show", "Show in the conversation");
      note.append(show);
      line.append(note);
    }
    return line;
  }

  text(item) {
    const box = el("div", "text");
    box.dir = "auto";
    const pattern = this.hits ?? (item.call ? namePattern(settings.name) : null);
    for (const { text, href } of splitLinks(item.text)) {
      let into = box;
      if (href) {
        into = el("a");
        into.href = href;
        into.target = "_blank";
        into.rel = "noopener noreferrer";
        box.append(into);
      }
      for (const part of splitHits(text, pattern)) {
        if (!part.hit) into.append(part.text);
        else into.append(el(this.hits ? "mark" : "span", "at", part.text));
      }
    }
    return box;
  }
}

// --- 5. Page -------------------------------------------------------------------------------------

const $ = (id) => document.getElementById(id);
const log = $("log");
const text = $("text");
let unread = 0;
let calls = 0;
let markBefore = 0; // until this time, a line that arrives is new since the page was left
let partial = null; // the last item, while its line is unfinished
let saveTimer = 0;
let savedAt = 0;

const list = new List(log, {
  ready: () => link.ready,
  moved() {
    $("end").hidden = list.follow;
    $("end").textContent = list.below ? `${list.below.toLocaleString()} new ↓` : "To the newest ↓";
    // A screen reader announces new messages, not old ones that scrolling brings back.
    log.ariaLive = list.follow && !list.words.length ? "polite" : "off";
  },
});

const link = new Link({
  state: showState,
  lines: takeLines,
  dirty: save,
  said(item) {
    item.state = "said";
    list.renew(item);
  },
  doubt(item) {
    item.state = "doubt";
    list.renew(item);
  },
  resumed({ same, first, away, missed }) {
    if (partial && !same) partial = null;
    if (missed) notice(`${missed.toLocaleString()} ${missed === 1 ? "message is" : "messages are"} missing here: you were away for too long.`);
    else if (!same && !first) notice("You joined again. What was said in the meantime is missing here.");
    if (away > LONG_AWAY) markBefore = Date.now() + 2000;
  },
});

const isHere = () => !document.hidden && document.hasFocus();

function notice(words) {
  list.add({ kind: "gap", at: Date.now(), text: words });
}

function showState() {
  const state = link.ready ? "on" : link.reason ? "shut" : "wait";
  const offline = navigator.onLine === false ? "No network" : link.again ? "Reconnecting" : "Connecting";
  const words = { on: "Connected", shut: link.reason, wait: offline }[state];
  if ($("state-text").textContent !== words) $("state-text").textContent = words;
  $("state").dataset.state = state;
  $("rejoin").hidden = state !== "shut";
  const keeps = "What you send now is kept, and sent once the room can be reached.";
  $("hint").textContent = { on: "", shut: "What you send now is kept until you join again.", wait: link.again ? keeps : "" }[state];
  for (const item of link.own) list.renew(item);
}

// --- lines of the room ---

function takeLines(rows) {
  for (const [n, line, unfinished] of rows) {
    if (n <= link.seen) continue;
    const parsed = parseLine(line);
    if (partial && partial.n === n) {
      Object.assign(partial, parsed, { kind: kindOf(parsed, n) });
      list.renew(partial);
      if (!unfinished) arrived(partial);
    } else if (line || !unfinished) {
      const item = { ...parsed, kind: kindOf(parsed, n), at: Date.now() };
      if (unfinished) Object.defineProperty(item, "n", { value: n }); // not stored
      if (!unfinished || !partial) list.add(item);
      partial = unfinished ? item : null;
      if (!unfinished) arrived(item);
    }
    if (!unfinished) {
      link.seen = n;
      partial = null;
    }
  }
  save();
}

/** Return the kind of an item. A welcome of several lines comes first, and has no prefix. */
function kindOf({ kind }, n) {
  if (kind !== "plain") return kind;
  return n === 1 || (n <= 20 && list.items.at(-1)?.kind === "welcome") ? "welcome" : "say";
}

/** Count a complete line as unread, mark the first that is new, and call if it mentions the name. */
function arrived(item) {
  const counts = item.kind === "say" || item.kind === "room";
  item.call = item.kind === "say" && mentions(item.text, settings.name);
  if (item.call) list.renew(item);
  if (!counts) return;
  const here = isHere();
  if ((!here && !unread) || Date.now() < markBefore) {
    if (list.items.length > 1 && (here || !unread)) list.setMark(item);
    markBefore = 0;
  }
  if (here) return;
  unread += 1;
  if (item.call) {
    calls += 1;
    call(item);
  }
  showTitle();
}

function showTitle() {
  const counts = (calls ? `@${calls} ` : "") + (unread ? `(${unread}) ` : "");
  document.title = `${counts}Chatroom ${location.host}`;
}

function call({ name, from, text: body }) {
  if (settings.sound) beep();
  if (!settings.notify || !("Notification" in window) || Notification.permission !== "granted") return;
  try {
    const shown = new Notification(name || from, { body: body.slice(0, 200), tag: KEY, icon: "icon.svg" });
    shown.onclick = () => {
      window.focus();
      shown.close();
    };
  } catch {
    // Android shows notifications of service workers only.
  }
}

function beep() {
  const audio = new AudioContext();
  const volume = audio.createGain();
  const tone = audio.createOscillator();
  volume.gain.setValueAtTime(0.08, audio.currentTime);
  volume.gain.exponentialRampToValueAtTime(0.001, audio.currentTime + 0.4);
  tone.frequency.value = 660;
  tone.connect(volume).connect(audio.destination);
  tone.start();
  tone.stop(audio.currentTime + 0.4);
  tone.onended = () => audio.close();
}

/** Somebody looks at the page again: show what is new, from its first line on. */
function looked() {
  link.hurry();
  if (!isHere()) return;
  const fresh = unread > 0 && list.follow;
  unread = calls = 0;
  showTitle();
  if (!fresh || !list.mark || list.words.length) return;
  list.draw();
  const row = list.rows.get(list.mark);
  if (!row || row.getBoundingClientRect().top < log.getBoundingClientRect().top) list.show(list.mark);
}

// --- what a reload must not lose ---

/** Store the session and the last lines; soon, or now. */
function save(now = false) {
  clearTimeout(saveTimer);
  const wait = savedAt + SAVE_EVERY - Date.now();
  if (now !== true && wait > 0) {
    saveTimer = setTimeout(save, wait, true);
    return;
  }
  savedAt = Date.now();
  const items = [];
  let size = 0;
  for (let at = list.items.length - 1; at >= 0; at--) {
    const item = list.items[at];
    size += item.text.length + 100;
    const keep = items.length < SAVED_LINES && size < SAVED_SIZE;
    if (item !== partial && (keep || item.state === "wait" || item.state === "sent")) items.push(item);
    if (!keep && at < list.items.length - 2 * SAVED_LINES) break;
  }
  const { session, seen, next } = link;
  const mark = items.indexOf(list.mark);
  write("sessionStorage", KEY, { session, seen, next, items: items.reverse(), mark: mark < 0 ? -1 : items.length - 1 - mark, at: savedAt });
  link.acknowledge();
}

function restore(saved) {
  Object.assign(link, { session: saved.session, seen: saved.seen, saved: saved.seen, next: saved.next, away: saved.at, again: true });
  for (const item of saved.items) list.add(item);
  link.own = saved.items.filter(({ state }) => state === "wait" || state === "sent");
  list.mark = saved.items[saved.mark] ?? null;
  text.value = read("sessionStorage", `${KEY} draft`) ?? "";
}

/** Return whether another tab has this session: a browser copies the storage of a tab that is
 * duplicated. A tab that was closed or reloaded in order has removed its mark. */
function isCopy(session) {
  if (!read("sessionStorage", `${KEY} open`) || !session) return Promise.resolve(false);
  return new Promise((resolve) => {
    tabs.addEventListener("message", ({ data }) => data.mine === session && resolve(true));
    tabs.postMessage({ ask: session });
    setTimeout(resolve, 200, false);
  });
}

const tabs = new BroadcastChannel(KEY);
tabs.addEventListener("message", ({ data }) => {
  if (data.ask && data.ask === link.session) tabs.postMessage({ mine: link.session });
});

// --- writing ---

function submit() {
  const sent = messages(text.value).map((line) => ({
    kind: "own",
    at: Date.now(),
    text: line,
    wire: settings.name ? `${settings.name}: ${line}` : line,
  }));
  if (!sent.length) return;
  text.value = "";
  typed();
  send(sent);
}

function send(sent) {
  link.say(sent);
  for (const item of sent) list.add(item);
  save(true);
  list.toEnd();
}

function typed() {
  write("sessionStorage", `${KEY} draft`, text.value);
  if (CSS.supports("field-sizing", "content")) return;
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight + 2}px`;
}

$("compose").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
  text.focus();
});
text.addEventListener("input", typed);
text.addEventListener("keydown", (event) => {
  if (event.isComposing) return;
  if (event.key === "Enter" && !event.shiftKey) {
    event.preventDefault();
    submit();
  } else if (event.key === "ArrowUp" && !text.value) {
    const last = list.items.findLast(({ kind }) => kind === "own");
    if (!last) return;
    event.preventDefault();
    text.value = last.text;
    typed();
  }
});

// --- the log: buttons in rows, copying ---

log.addEventListener("click", ({ target }) => {
  const item = target.closest(".row")?.item;
  if (target.matches(".show")) {
    closeSearch();
    const row = list.show(item);
    row.tabIndex = -1;
    row.focus({ preventScroll: true });
  } else if (target.matches(".again")) {
    item.state = "said"; // the old line stays, and makes no more offer
    list.renew(item);
    const { text: body, wire } = item;
    send([{ kind: "own", at: Date.now(), text: body, wire }]);
  }
});

/** Copy messages as `name: text`, one a line, without times, notices and buttons. */
log.addEventListener("copy", (event) => {
  const selection = getSelection();
  if (!selection.rangeCount) return;
  const range = selection.getRangeAt(0);
  const lines = [];
  for (const row of log.children) {
    const box = row.querySelector(".text");
    if (!box || !range.intersectsNode(box)) continue;
    const part = range.cloneRange();
    if (!box.contains(part.startContainer)) part.setStart(box, 0);
    if (!box.contains(part.endContainer)) part.setEnd(box, box.childNodes.length);
    const { kind, name, from } = row.item;
    const sender = kind === "own" ? settings.name || "me" : name || from;
    lines.push([sender, part.toString()]);
  }
  if (!lines.length) return;
  event.preventDefault();
  const copied = lines.length === 1 ? lines[0][1] : lines.map(([sender, body]) => (sender ? `${sender}: ${body}` : body)).join("\n");
  event.clipboardData.setData("text/plain", copied);
});

$("end").addEventListener("click", () => {
  list.toEnd();
  text.focus({ preventScroll: true });
});
$("rejoin").addEventListener("click", () => {
  link.tries = 0;
  link.connect();
  text.focus();
});

// --- search ---

function openSearch() {
  $("search").hidden = false;
  $("find").ariaExpanded = "true";
  $("words").focus();
  $("words").select();
}

function closeSearch() {
  $("search").hidden = true;
  $("find").ariaExpanded = "false";
  $("words").value = $("found").textContent = "";
  if (list.words.length) {
    list.hits = null;
    list.search([]);
  }
}

$("find").addEventListener("click", () => ($("search").hidden ? openSearch() : closeSearch()));
$("done").addEventListener("click", () => {
  closeSearch();
  $("find").focus();
});
$("search").addEventListener("submit", (event) => event.preventDefault());
$("words").addEventListener("input", () => {
  const words = searchWords($("words").value);
  list.search(words);
  $("found").textContent = words.length ? `${list.view.length.toLocaleString()} of ${list.items.length.toLocaleString()}` : "";
});

// --- settings ---

function showSettings() {
  $("me").textContent = settings.name || "Your name";
  $("me").ariaLabel = settings.name ? `Your name: ${settings.name}. Change` : "Your name";
  $("me").classList.toggle("named", Boolean(settings.name));
  if (settings.theme) document.documentElement.dataset.theme = settings.theme;
  else delete document.documentElement.dataset.theme;
}

function openSettings() {
  const can = "Notification" in window && isSecureContext;
  $("name").value = settings.name;
  $("notify").checked = settings.notify && can && Notification.permission === "granted";
  $("notify").disabled = !can;
  $("notify-note").hidden = can;
  $("notify-note").textContent = "Browsers allow notifications only on pages with https.";
  $("sound").checked = settings.sound;
  $("theme").value = settings.theme;
  $("settings").showModal();
}

$("set").addEventListener("click", openSettings);
$("me").addEventListener("click", () => {
  openSettings();
  $("name").focus();
});
$("notify").addEventListener("change", async () => {
  if (!$("notify").checked || (await Notification.requestPermission()) === "granted") return;
  $("notify").checked = false;
  $("notify-note").hidden = false;
  $("notify-note").textContent = "The browser does not allow this page to notify you.";
});
$("theme").addEventListener("change", () => {
  settings.theme = $("theme").value;
  showSettings();
});
$("settings").addEventListener("close", () => {
  settings.name = cleanName($("name").value);
  settings.notify = $("notify").checked;
  settings.sound = $("sound").checked;
  write("localStorage", "chatroom", settings);
  showSettings();
});
addEventListener("storage", ({ key }) => {
  if (key !== "chatroom") return;
  Object.assign(settings, read("localStorage", "chatroom"));
  showSettings();
});

// --- keys, and the page's coming and going ---

document.addEventListener("keydown", (event) => {
  const { key, target } = event;
  if ($("settings").open || event.ctrlKey || event.metaKey || event.altKey) return;
  if (key === "Escape" && !$("search").hidden) {
    closeSearch();
    text.focus();
  } else if (target.matches("input, textarea, select, button, a")) {
    return;
  } else if (key === "/") {
    event.preventDefault();
    openSearch();
  } else if (key === "End") {
    event.preventDefault();
    list.toEnd();
  } else if (key.length === 1 && key !== " ") text.focus(); // who types, writes a message
});

addEventListener("focus", looked);
document.addEventListener("visibilitychange", looked);
addEventListener("online", () => link.hurry());
addEventListener("offline", () => link.lost());
addEventListener("pagehide", () => {
  save(true);
  sessionStorage.removeItem(`${KEY} open`);
});
addEventListener("pageshow", ({ persisted }) => {
  if (!persisted) return;
  write("sessionStorage", `${KEY} open`, true);
  link.connect();
});

let ticked = Date.now();
setInterval(() => {
  link.check(Date.now() - ticked > 90_000); // hidden pages have a tick a minute
  ticked = Date.now();
}, 5000);

const saved = read("sessionStorage", KEY);
const copy = await isCopy(saved?.session);
if (saved && !copy) restore(saved);
write("sessionStorage", `${KEY} open`, true);
$("host").textContent = location.host;
showTitle();
showSettings();
typed();
link.connect();
if (matchMedia("(pointer: fine)").matches) text.focus();
