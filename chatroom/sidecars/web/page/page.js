// The page of the room, in five parts:
//
//   Text      pure functions: sender and name of a line, links, mentions, colours
//   Storage   data that survives a reload
//   Link      the protocol between page and gateway: docs/web.md
//   List      the messages; the document holds only some of them
//   Page      controls, notifications, keys
//
// The room's text enters the document as text, never as HTML.

// --- Text ---

const PREFIX = /^<([^<>\s]{1,64})>/u;
const NAME = /^([^:]{1,60}): (.*)$/su;
const PIECE = 2000; // UTF-16 units: at most 6,000 bytes, which fit the room's lines (LINE-7)

/** Return the kind of a line, the sender's address, the name before the text, and the text. */
export function parseLine(line) {
	const prefix = PREFIX.exec(line);
	if (!prefix) return { kind: "plain", from: "", name: "", text: line };
	const [, from] = prefix;
	const text = line.slice(prefix[0].length);
	if (from === "room") return { kind: "room", from: "", name: "", text };
	const [, name, rest] = NAME.exec(text) ?? [];
	if (!name || name !== cleanName(name)) return { kind: "say", from, name: "", text };
	return { kind: "say", from, name, text: rest };
}

/** Return typed text as a name that `parseLine` recognises, or "". A name is short: longer text
 * before a colon is a sentence. */
export function cleanName(typed) {
	const words = typed
		.normalize("NFC")
		.replace(/[<>:\p{Cc}\p{Cs}\u2028\u2029]/gu, " ")
		.replace(/^[^\p{L}\p{N}\p{Extended_Pictographic}_@]+/u, "")
		.split(/\s+/u);
	const name = [...words.slice(0, 3).join(" ")].slice(0, 24).join("").trim();
	return name.replace(/^[\p{N}.]+$/u, ""); // no address
}

/** Return the messages in typed or pasted text: one per line, without empty lines. */
export function messages(typed) {
	const found = [];
	for (let line of typed.split(/[\r\n]+/u)) {
		line = line.trimEnd();
		while (line.length > PIECE) {
			let cut = line.lastIndexOf(" ", PIECE) + 1 || PIECE;
			if (line.codePointAt(cut - 1) > 0xffff) cut -= 1; // not inside a character
			found.push(line.slice(0, cut));
			line = line.slice(cut);
		}
		if (line) found.push(line);
	}
	return found;
}

/** Pattern of a link, without punctuation after it, and with brackets only in pairs. */
export const LINK =
	/(?<![\p{L}\p{N}])https?:\/\/(?:\([^\s<>"()]*\)|[^\s<>"()])*(?:\([^\s<>"()]*\)|[^\s<>"().,;:!?'*~…»”’\]}])/giu;

/** Return a text as parts {text, hit}. `hit`: the part matches `pattern`, which may be null. */
export function split(text, pattern) {
	const parts = [];
	let done = 0;
	for (const { 0: found, index } of pattern ? text.matchAll(pattern) : []) {
		if (index > done) parts.push({ text: text.slice(done, index), hit: false });
		parts.push({ text: found, hit: true });
		done = index + found.length;
	}
	if (done < text.length) parts.push({ text: text.slice(done), hit: false });
	return parts;
}

const escaped = (text) => text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");

/** Return a pattern for a name as a whole word in any case; null without a name. */
export function mention(name) {
	return name ? new RegExp(`(?<![\\p{L}\\p{N}_])@?${escaped(name)}(?![\\p{L}\\p{N}_])`, "giu") : null;
}

/** Return the hue of an address, in degrees. Similar addresses have different hues. */
export function hue(address) {
	let hash = 0x811c9dc5; // FNV-1a
	for (const unit of address) hash = Math.imul(hash ^ unit.codePointAt(0), 0x01000193) >>> 0;
	return Math.floor((hash * 137.508) % 360); // the golden angle
}

const EMOJI = /^(\p{RI}{2}|\p{Extended_Pictographic}(\ufe0f|\p{EMod}|\u200d\p{Extended_Pictographic})*|\s){1,6}$/u;
export const isEmoji = (text) => EMOJI.test(text) && text.trim() !== "";

// --- Storage ---

const [TAB, DEVICE] = ["sessionStorage", "localStorage"];
const KEY = `chatroom ${location.pathname}`;
const SAVED_LINES = 1000;
const SAVED_SIZE = 400_000; // characters; browsers allow at least 2.5 million

function read(storage, key) {
	try {
		return JSON.parse(window[storage].getItem(key));
	} catch {
		return null; // storage is off, or the value is not JSON
	}
}

function write(storage, key, value) {
	try {
		window[storage].setItem(key, JSON.stringify(value));
	} catch {
		// Storage is off or full: a reload begins a new session.
	}
}

/** Return whether another tab has this session: a duplicate of a tab has a copy of its storage. */
function isCopy(session) {
	return new Promise((resolve) => {
		tabs.onmessage = ({ data }) => data.mine === session && resolve(true);
		tabs.postMessage({ ask: session });
		setTimeout(resolve, 200, false);
	});
}

const tabs = new BroadcastChannel(KEY);
let saved = read(TAB, KEY);
// When a tab is closed or reloaded, it clears "open"; a killed tab doesn't.
if (saved?.session && read(TAB, `${KEY} open`) && (await isCopy(saved.session))) saved = null;

const settings = { name: "", notify: false, sound: false, theme: "", ...read(DEVICE, "chatroom") };

// --- Link ---

const RETRY = [300, 15_000]; // ms: first and longest pause between attempts
const OPEN_WITHIN = 10_000; // ms, until the gateway's first frame
const ASK_AFTER = 25_000; // ms of silence
const ANSWER_WITHIN = 15_000; // ms

/** The session with the gateway. It outlives its WebSocket and a reload. */
class Link {
	session = null;
	seen = 0; // number of the last complete line
	confirmed = 0; // number in the last {"seen"} frame
	next = 1; // number of the next message
	own = []; // messages that are not confirmed, {n, wire, state}: "wait" (never sent) or "sent"
	ready = false;
	reason = ""; // why the gateway has closed the session
	again = false; // after the first session
	away = Date.now(); // when the connection was lost
	heard = 0; // time of the last frame
	asked = 0; // time of the oldest frame without an answer
	tries = 0;

	constructor(on) {
		this.on = on;
	}

	connect() {
		this.drop();
		this.reason = "";
		const url = new URL("room", location.href);
		url.protocol = url.protocol.replace("http", "ws");
		const socket = (this.socket = new WebSocket(url));
		socket.onopen = () => this.send({ session: this.session, seen: this.seen });
		socket.onmessage = ({ data }) => this.receive(JSON.parse(data));
		socket.onclose = ({ code }) => {
			if (code === 1008) this.session = null; // the gateway has rejected a frame
			this.lost();
		};
		this.timer = setTimeout(() => this.lost(), OPEN_WITHIN);
		this.on.state();
	}

	send(frame) {
		this.socket.send(JSON.stringify(frame));
	}

	/** Drop the socket. Without a network, waiting for its close would take minutes. */
	drop() {
		clearTimeout(this.timer);
		if (this.ready) this.away = Date.now();
		this.ready = false;
		if (!this.socket) return;
		this.socket.onopen = this.socket.onmessage = this.socket.onclose = null;
		this.socket.close(); // without a code: the session goes on
		this.socket = null;
	}

	lost() {
		this.drop();
		if (!this.reason) {
			const wait = Math.min(RETRY[0] * 2 ** this.tries++, RETRY[1]);
			this.timer = setTimeout(() => this.connect(), wait * (0.5 + Math.random() / 2));
		}
		this.on.state();
	}

	/** Connect now: the network or the user is back. */
	connectNow() {
		if (this.ready || this.reason) return;
		this.tries = 0;
		this.connect();
	}

	receive({ session, said, missed, lines, closed }) {
		this.heard = Date.now();
		if (session) this.resume(session, said, missed);
		else if (said !== undefined) this.confirm(said);
		if (lines) this.on.lines(lines);
		if (!closed) return;
		this.reason = closed;
		this.lost();
		this.session = null;
		this.on.save(true);
	}

	/** Resume the session, or begin a new one, with the gateway's numbers. */
	resume(session, said, missed) {
		clearTimeout(this.timer);
		const same = session === this.session;
		if (same) {
			this.confirm(said);
			this.seen += missed;
		} else {
			for (const message of this.own) if (message.state === "sent") this.on.change(message, "doubt");
			this.own = this.own.filter(({ state }) => state === "wait");
			this.own.forEach((message, at) => (message.n = at + 1));
			this.next = this.own.length + 1;
			this.seen = this.confirmed = 0;
		}
		this.on.resume(same, missed, Date.now() - this.away);
		this.session = session;
		this.ready = this.again = true;
		this.tries = this.asked = 0;
		this.flush(this.own);
		this.on.state();
	}

	/** Send messages, now or once there is a connection. */
	say(messages) {
		for (const message of messages) Object.assign(message, { n: this.next++, state: "wait" });
		this.own.push(...messages);
		this.flush(messages);
	}

	flush(messages) {
		if (this.ready) for (const message of messages) message.state = "sent";
		this.on.save(true); // before they are sent, so that a reload loses and repeats none
		if (!this.ready || !messages.length) return;
		for (const { n, wire } of messages) this.send({ n, say: wire });
		this.ask();
	}

	confirm(said) {
		while (this.own[0]?.n <= said) this.on.change(this.own.shift(), "said");
	}

	/** Let the gateway drop the lines that are stored here. */
	confirmSeen() {
		if (!this.ready || this.seen === this.confirmed) return;
		this.confirmed = this.seen;
		this.send({ seen: this.seen });
	}

	ask() {
		if (this.asked <= this.heard) this.asked = Date.now();
	}

	/** Check that the connection is alive. `jumped`: the clock has jumped, as after sleep. */
	check(jumped) {
		const now = Date.now();
		if (!this.ready) return;
		if (jumped || (this.asked > this.heard && now - this.asked > ANSWER_WITHIN)) this.connect();
		else if (now - this.heard > ASK_AFTER) {
			this.send({ seen: this.confirmed }); // confirms nothing new, so the gateway answers
			this.ask();
		}
	}
}

// --- List ---

const KEPT = 20_000; // lines in memory
const ROWS = 100; // rows in the document; at most twice as many
const STEP = 40; // rows to add while the user scrolls
const NEAR = 800; // pixels from the edge at which rows are added
const GROUP = 5 * 60_000; // ms; after a longer pause, name and time are shown again

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const date = new Intl.DateTimeFormat(undefined, { dateStyle: "full" });
const day = ({ at }) => new Date(at).toDateString();

const top = (node) => node.getBoundingClientRect().top;

function el(tag, kind, text = "") {
	const made = document.createElement(tag);
	made.className = kind;
	made.textContent = text;
	return made;
}

/** The messages. An item is {kind, at, text}, and
 *
 *   kind "say"   another member's message: from, name; `call`: it mentions the user's name
 *   kind "own"   wire, n, state: "wait", "sent", "said", "doubt"
 *   others       "welcome", "room", "gap" (a notice of the page)
 *
 * The document holds the rows of view[from] to view[to - 1].
 */
class List {
	items = [];
	view = this.items; // all items, or those that a search has found
	rows = new Map(); // row of each item in the document
	from = 0;
	to = 0;
	follow = true; // scroll to each new item
	below = 0; // new items below the window
	mark = null; // first item that is new to the user
	words = []; // words to search for
	hits = null; // pattern of these words
	waits = false; // `draw` is scheduled

	constructor(log, on) {
		this.log = log;
		this.on = on;
		log.addEventListener("scroll", () => this.scrolled(), { passive: true });
		new ResizeObserver(() => this.follow && this.toEnd()).observe(log);
	}

	add(item) {
		this.items.push(item);
		if (this.words.length && this.matches(item)) this.view.push(item);
		if (!this.follow) this.below += 1;
		if (this.items.length > KEPT * 1.1) this.forget(this.items.splice(0, KEPT * 0.1));
		this.later();
	}

	forget(gone) {
		if (this.view !== this.items) return;
		for (const item of gone) this.remove(item);
		this.from = Math.max(0, this.from - gone.length);
		this.to = Math.max(0, this.to - gone.length);
	}

	/** Draw all new items in the next frame of the screen. */
	later() {
		if (this.waits) return;
		this.waits = true;
		requestAnimationFrame(() => this.draw());
	}

	draw() {
		this.waits = false;
		if (!this.follow) this.fill();
		else {
			if (this.view.length - this.to <= ROWS) this.append(this.view.length);
			this.cutTop();
			this.toEnd();
		}
		this.on.move();
	}

	place(from, to) {
		this.log.replaceChildren();
		this.rows.clear();
		this.from = this.to = Math.max(0, from);
		this.append(to);
	}

	append(to) {
		const rows = [];
		for (; this.to < Math.min(to, this.view.length); this.to++) rows.push(this.row(this.to));
		this.log.append(...rows);
	}

	remove(item) {
		this.rows.get(item)?.remove();
		this.rows.delete(item);
	}

	cutTop() {
		if (this.to - this.from <= 2 * ROWS) return;
		while (this.to - this.from > ROWS) this.remove(this.view[this.from++]);
	}

	/** Add rows near the edge of those in the document. */
	fill() {
		const { log } = this;
		if (log.scrollTop < NEAR && this.from > 0) {
			const rest = log.scrollHeight - log.scrollTop;
			const rows = [];
			for (let left = STEP; left && this.from; left--) rows.unshift(this.row(--this.from));
			log.prepend(...rows);
			log.scrollTop = log.scrollHeight - rest;
			while (this.to - this.from > 2 * ROWS) this.remove(this.view[--this.to]);
		}
		const rest = this.rest();
		if (rest > NEAR || this.to === this.view.length) return;
		this.cutTop();
		log.scrollTop = log.scrollHeight - log.clientHeight - rest;
		this.append(this.to + STEP);
	}

	rest() {
		return this.log.scrollHeight - this.log.clientHeight - this.log.scrollTop;
	}

	scrolled() {
		// While the list follows, some items may not be drawn yet.
		this.follow = this.rest() < 40 && (this.follow || this.to === this.view.length);
		if (this.follow) this.below = 0;
		else this.later();
		this.on.move();
	}

	toEnd() {
		this.follow = true;
		this.below = 0;
		if (this.to < this.view.length) this.place(this.view.length - ROWS, this.view.length);
		this.log.scrollTop = this.log.scrollHeight;
		this.on.move();
	}

	/** Scroll an item into the upper part of the window; return its row. */
	show(item) {
		const at = this.view.indexOf(item);
		if (!this.rows.has(item)) this.place(at - ROWS / 2, at + ROWS);
		const row = this.rows.get(item);
		if (!row) return null; // too old
		this.log.scrollTop += top(row) - top(this.log) - this.log.clientHeight / 5;
		this.scrolled();
		return row;
	}

	/** Redraw a changed item. */
	renew(item) {
		if (this.rows.has(item)) this.rows.get(item).replaceWith(this.row(this.view.indexOf(item, this.from)));
		this.later();
	}

	setMark(item) {
		const old = this.mark;
		this.mark = item;
		for (const changed of [old, item]) this.renew(changed);
	}

	matches({ kind, name = "", from = "", text }) {
		const all = `${name} ${from} ${text}`.toLowerCase();
		return kind !== "gap" && this.words.every((word) => all.includes(word));
	}

	search(typed) {
		this.words = typed.toLowerCase().split(/\s+/u).filter(Boolean);
		const { length } = this.words;
		this.hits = length ? new RegExp(this.words.map(escaped).join("|"), "giu") : null;
		this.view = length ? this.items.filter((item) => this.matches(item)) : this.items;
		this.place(this.view.length - ROWS, this.view.length);
		if (!this.view.length) this.log.append(el("p", "notice", "No message contains these words."));
		this.toEnd();
	}

	row(at) {
		const item = this.view[at];
		const before = this.view[at - 1];
		const row = el("div", "row");
		const newDay = !before || day(before) !== day(item);
		const isMark = item === this.mark && !this.hits;
		if (newDay) row.append(el("div", "rule", date.format(item.at)));
		if (isMark) row.append(el("div", "rule new", "New since you left"));
		const alike = ["kind", "from", "name"].every((key) => before?.[key] === item[key]);
		const first = newDay || isMark || this.hits || !alike || item.at - before.at > GROUP;
		if (item.kind === "say" || item.kind === "own") row.append(this.line(item, first));
		else {
			row.append(el("div", `notice ${item.kind}`));
			row.lastChild.append(this.text(item));
		}
		row.item = item;
		this.rows.set(item, row);
		return row;
	}

	line(item, first) {
		const { from, name, at, state } = item;
		const own = item.kind === "own";
		const waits = state === "wait" || (state === "sent" && !this.on.ready());
		const line = el("div", `line ${item.kind}`);
		const is = { first, call: item.call, big: isEmoji(item.text), waits: waits || state === "doubt" };
		line.classList.add(...Object.keys(is).filter((kind) => is[kind]));
		if (!own) line.style.setProperty("--hue", hue(from));

		const sender = own ? "You" : name || from;
		const time = el("time", "", clock.format(at));
		time.dateTime = new Date(at).toISOString();
		if (first) {
			const who = el("div", "who");
			who.append(el("b", own ? "sr" : "", sender), " ");
			who.firstChild.dir = "auto";
			if (name) who.append(el("span", "", from), " ");
			who.append(time);
			const disc = el("div", "disc", name ? [...name][0].toUpperCase() : from?.split(/[.:#]/u).at(-1));
			disc.ariaHidden = "true";
			if (!own) line.append(disc);
			line.append(who);
		} else {
			time.ariaHidden = "true";
			line.append(time, el("span", "sr", `${sender}: `));
		}
		line.append(this.text(item));
		const note = (text, button, label) => {
			line.append(el("p", "note", text));
			if (button) line.lastChild.append(el("button", button, label));
		};
		if (waits) note("Waits for the connection");
		if (state === "doubt") note("May not have arrived", "again", "Send again");
		if (this.hits) note("", "show", "Show");
		return line;
	}

	text(item) {
		const box = el("div", "text");
		const pattern = this.hits ?? (item.call ? mention(settings.name) : null);
		box.dir = "auto";
		for (const { text, hit } of split(item.text, LINK)) {
			const into = hit && URL.canParse(text) ? el("a", "") : box;
			if (into !== box) {
				Object.assign(into, { href: text, target: "_blank", rel: "noreferrer" });
				box.append(into);
			}
			for (const part of split(text, pattern)) into.append(part.hit ? el("mark", "", part.text) : part.text);
		}
		return box;
	}
}

// --- Page ---

const $ = (id) => document.getElementById(id);
const [log, text, words] = ["log", "text", "words"].map($);
let unread = 0;
let calls = 0; // unread messages with the name
let wasHidden = false;
let markUntil = 0; // mark the first line if it arrives before this time
let earlier = 0; // earlier messages (HIST-1) that follow
let partial = null; // the item of the unfinished line
let stateTimer, saveTimer;
let savedAt = 0;

const list = new List(log, {
	ready: () => link.ready,
	move() {
		$("end").hidden = list.follow;
		$("end").textContent = list.below ? `${list.below} new ↓` : "To the newest ↓";
		// Screen readers announce new messages, not those shown by scrolling.
		log.ariaLive = list.follow && !list.hits ? "polite" : "off";
	},
});

const link = new Link({
	save,
	lines: takeLines,
	state() {
		// Do not show a short interruption.
		if (link.reason || link.ready) showState();
		else stateTimer ||= setTimeout(showState, 1000);
	},
	change(item, state) {
		item.state = state;
		list.renew(item);
	},
	resume(same, missed, away) {
		if (!same) partial = null;
		if (missed) notice(`Lines missing here: ${missed}. You were away for too long.`);
		else if (!same && link.again) notice("You joined again. What was said in between is missing here.");
		if (away > 5000) markUntil = Date.now() + 2000;
	},
});

const isHere = () => !document.hidden && document.hasFocus();
const notice = (words) => list.add({ kind: "gap", at: Date.now(), text: words });

function showState() {
	stateTimer = clearTimeout(stateTimer);
	const trying = navigator.onLine ? (link.again ? "Reconnecting" : "Connecting") : "No network";
	const [state, words, until] = link.ready
		? ["on", "Connected"]
		: link.reason
			? ["shut", link.reason, "you join again"]
			: ["wait", trying, "the room is reached"];
	if ($("state").textContent !== words) $("state").textContent = words;
	$("state").dataset.state = state;
	$("rejoin").hidden = state !== "shut";
	$("hint").textContent = until ? `Your messages wait until ${until}.` : "";
	for (const item of link.own) list.renew(item);
}

// --- Page: lines of the room ---

function takeLines(rows) {
	const joins = rows[0]?.[0] === 1;
	for (const [n, line, unfinished] of rows) {
		if (n <= link.seen || (unfinished && !line)) continue;
		const item = partial?.n === n ? partial : { n, at: Date.now() };
		Object.assign(item, parseLine(line));
		// The first lines without a prefix are the welcome, if they arrive together.
		if (item.kind === "plain") item.kind = n === 1 || (joins && list.items.at(item === partial ? -2 : -1)?.kind === "welcome") ? "welcome" : "say";
		if (item === partial) list.renew(item);
		else list.add(item);
		partial = unfinished ? item : null;
		if (unfinished) continue;
		link.seen = n;
		arrived(item);
	}
	save();
}

/** Count a complete line; mark it if it is the first new line. */
function arrived(item) {
	if (item.kind === "welcome") return;
	if (list.items.at(-2)?.kind === "welcome") {
		earlier = item.kind === "room" && Number(/^([\d,]+) earlier messages?:$/.exec(item.text)?.[1].replaceAll(",", ""));
		if (earlier) return;
	} else if (earlier) {
		if (!--earlier) notice("Earlier messages end here.");
		return;
	}
	item.call = item.kind === "say" && Boolean(mention(settings.name)?.test(item.text));
	if (item.call) list.renew(item);
	const here = isHere();
	if (here ? Date.now() < markUntil : !unread) list.setMark(item);
	markUntil = 0;
	if (here) return;
	unread += 1;
	calls += item.call;
	showTitle();
	if (item.call) call(item);
}

function showTitle() {
	document.title = `${calls ? `@${calls} ` : ""}${unread ? `(${unread}) ` : ""}Chatroom ${location.host}`;
}

function call(item) {
	if (settings.sound) beep();
	if (!settings.notify) return;
	try {
		const shown = new Notification(item.name || item.from, { body: item.text.slice(0, 200), tag: KEY, icon: "icon.svg" });
		shown.onclick = () => (window.focus(), shown.close());
	} catch {
		// On Android, only service workers can notify.
	}
}

function beep() {
	const audio = new AudioContext();
	const volume = new GainNode(audio, { gain: 0.1 });
	const tone = new OscillatorNode(audio, { frequency: 660 });
	tone.connect(volume).connect(audio.destination);
	tone.start();
	tone.stop(0.2);
	tone.onended = () => audio.close();
}

/** The user is back: show the first new line. */
function onReturn() {
	wasHidden ||= document.hidden;
	if (!document.hidden) link.connectNow();
	if (!isHere()) return;
	const jump = wasHidden && unread && list.follow && list.mark && !list.hits;
	unread = calls = 0;
	wasHidden = false;
	showTitle();
	if (!jump) return;
	list.draw();
	const row = list.rows.get(list.mark);
	if (!row || top(row) < top(log)) list.show(list.mark);
}

// --- Page: data that survives a reload ---

/** Store the session and the last lines, at most once a second, or `now`. */
function save(now) {
	clearTimeout(saveTimer);
	const wait = savedAt + 1000 - Date.now();
	if (!now && wait > 0) {
		saveTimer = setTimeout(save, wait);
		return;
	}
	savedAt = Date.now();
	let size = 0;
	const last = list.items.slice(-SAVED_LINES).filter((item) => item !== partial);
	const at = last.findLastIndex((item) => (size += item.text.length + 100) > SAVED_SIZE);
	// Always store messages that are not confirmed yet.
	const kept = new Set(last.slice(at + 1));
	const items = [...link.own.filter((item) => !kept.has(item)), ...kept];
	const { session, seen, next } = link;
	write(TAB, KEY, { session, seen, next, items, mark: items.indexOf(list.mark), at: savedAt });
	link.confirmSeen();
}

function restore({ session, seen, next, items, mark, at }) {
	Object.assign(link, { session, seen, next, confirmed: seen, away: at, again: true });
	link.own = items.filter(({ state }) => state === "wait" || state === "sent");
	list.mark = items[mark];
	for (const item of items) list.add(item);
	text.value = read(TAB, `${KEY} draft`);
}

// --- Page: writing ---

function submit() {
	const before = settings.name && `${settings.name}: `;
	send(messages(text.value).map((line) => ({ text: line, wire: before + line })));
	text.value = "";
	keepDraft();
}

function send(sent) {
	for (const item of sent) list.add(Object.assign(item, { kind: "own", at: Date.now() }));
	link.say(sent);
	list.toEnd();
}

const keepDraft = () => write(TAB, `${KEY} draft`, text.value);

$("compose").onsubmit = () => {
	submit();
	text.focus();
	return false;
};
text.oninput = keepDraft;
text.onkeydown = (event) => {
	if (event.isComposing || event.key !== "Enter" || event.shiftKey) return;
	event.preventDefault();
	submit();
};

// --- Page: the log ---

log.onclick = ({ target }) => {
	const item = target.closest(".row")?.item;
	if (target.matches(".show")) {
		toggleSearch(false);
		const row = list.show(item);
		row?.setAttribute("tabindex", -1);
		row?.focus({ preventScroll: true });
	} else if (target.matches(".again")) {
		link.on.change(item, "said");
		send([{ text: item.text, wire: item.wire }]);
	}
};

/** Copy several messages as `name: text`, without times, notices and buttons. */
log.oncopy = (event) => {
	const range = getSelection().getRangeAt(0);
	const lines = [];
	for (const row of log.children) {
		const box = row.querySelector(".text");
		if (!box || !range.intersectsNode(box)) continue;
		const part = range.cloneRange();
		if (!box.contains(part.startContainer)) part.setStart(box, 0);
		if (!box.contains(part.endContainer)) part.setEnd(box, box.childNodes.length);
		const { kind, name, from } = row.item;
		const sender = kind === "own" ? settings.name || "me" : name || from;
		lines.push([sender, part]);
	}
	if (!lines.length) return;
	const many = lines.length > 1;
	const copied = lines.map(([sender, part]) => (many && sender ? `${sender}: ${part}` : `${part}`));
	event.clipboardData.setData("text/plain", copied.join("\n"));
	event.preventDefault();
};

$("end").onclick = () => {
	list.toEnd();
	text.focus();
};
$("rejoin").onclick = () => {
	link.connect();
	text.focus();
};

// --- Page: search ---

function toggleSearch(open) {
	$("search").hidden = !open;
	$("find").ariaExpanded = open;
	words.value = $("found").textContent = "";
	if (open) words.focus();
	else if (list.hits) list.search("");
}

$("find").onclick = () => toggleSearch($("search").hidden);
$("search").onsubmit = () => false;
words.oninput = () => {
	list.search(words.value);
	$("found").textContent = list.hits ? `${list.view.length} found` : "";
};

// --- Page: settings ---

function showSettings() {
	const { name, theme } = settings;
	$("me").textContent = name || "Name";
	$("me").ariaLabel = name ? `${name}: change your name` : "Your name";
	$("me").className = name && "named";
	document.documentElement.dataset.theme = theme;
}

function openSettings() {
	const can = "Notification" in window && isSecureContext;
	$("name").value = settings.name;
	$("theme").value = settings.theme;
	$("sound").checked = settings.sound;
	$("notify").checked = settings.notify && can && Notification.permission === "granted";
	$("notify").disabled = !can;
	$("note").textContent = can ? "" : "Browsers allow notifications only over https.";
	$("settings").showModal();
}

$("set").onclick = openSettings;
$("me").onclick = () => {
	openSettings();
	$("name").focus();
};
$("notify").onchange = async () => {
	if (!$("notify").checked || (await Notification.requestPermission()) === "granted") return;
	$("notify").checked = false;
	$("note").textContent = "The browser does not let this page notify you.";
};
$("settings").onclose = () => {
	const [notify, sound] = [$("notify").checked, $("sound").checked];
	Object.assign(settings, { name: cleanName($("name").value), theme: $("theme").value, notify, sound });
	write(DEVICE, "chatroom", settings);
	showSettings();
};
window.onstorage = () => {
	Object.assign(settings, read(DEVICE, "chatroom"));
	showSettings();
};

// --- Page: keys, focus, network ---

document.onkeydown = (event) => {
	const { key, target } = event;
	if ($("settings").open || event.ctrlKey || event.metaKey || event.altKey) return;
	if (key === "Escape" && !$("search").hidden) {
		toggleSearch(false);
		text.focus();
	} else if (target.matches("input, textarea, select, button, a")) return;
	else if (key === "/" || key === "End") {
		event.preventDefault();
		if (key === "/") toggleSearch(true);
		else list.toEnd();
	} else if (key.length === 1 && key !== " ") text.focus(); // the user types a message
};

window.onfocus = document.onvisibilitychange = onReturn;
window.ononline = () => link.connectNow();
window.onoffline = () => link.lost();
window.onpagehide = () => {
	save(true);
	write(TAB, `${KEY} open`, false);
};
window.onpageshow = ({ persisted }) => {
	if (!persisted) return;
	write(TAB, `${KEY} open`, true);
	link.connect();
};

let ticked = Date.now();
setInterval(() => {
	const since = Date.now() - ticked;
	link.check(since < 0 || since > 90_000); // in a hidden page, timers run once a minute
	ticked = Date.now();
}, 5000);

tabs.onmessage = ({ data }) => {
	if (data.ask && data.ask === link.session) tabs.postMessage({ mine: data.ask });
};
if (saved) restore(saved);
write(TAB, `${KEY} open`, true);
$("host").textContent = location.host;
showTitle();
showSettings();
link.connect();
if (matchMedia("(pointer: fine)").matches) text.focus();
