// The student page. No socket is opened before consent; the seat's key lives in this tab alone.

import { $, button, el, say } from "./dom.js";

const asked = new URLSearchParams(location.search);
const room = asked.get("room") ?? "";
const KEY = `affect.seat.${room}`;
const SAID = { lost: "Noted: you are lost.", hand: "Noted: hand raised.", fast: "Noted: too fast.", slow: "Noted: too slow.", chat: "Sent; only its mood was kept.", answer: "Answer counted." };
const SHOWN_MS = 4000;

const kept = {
  get: () => {
    try {
      return sessionStorage.getItem(KEY) ?? "";
    } catch {
      return "";
    }
  },
  set: (key) => {
    try {
      if (key) sessionStorage.setItem(KEY, key);
      else sessionStorage.removeItem(KEY);
    } catch {
      // storage is switched off: a broken connection then means a new seat
    }
  },
};

let socket = null;
let consented = false;
let tries = 0;
let timer = 0;
let question = null;

$("code").value = asked.get("code") ?? "";
say($("room"), room ? `Room ${room}` : "Room");

function show(state, text) {
  $("link").dataset.state = state;
  say($("link-text"), text);
}

function open() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const ws = (socket = new WebSocket(`${scheme}://${location.host}/join/ws`));
  ws.binaryType = "arraybuffer";
  show("waiting", "Connecting");
  ws.onopen = () => ws.send(JSON.stringify({ do: "join", room, code: $("code").value, key: kept.get() }));
  ws.onmessage = (event) => take(JSON.parse(typeof event.data === "string" ? event.data : new TextDecoder().decode(event.data)));
  ws.onclose = () => {
    if (ws !== socket) return;
    socket = null;
    if (!consented) return;
    show("reconnecting", "Connection lost");
    tries += 1;
    timer = setTimeout(open, Math.min(8000, 500 * 2 ** tries));
  };
}

function take(message) {
  if (message.type === "seat") {
    tries = 0;
    kept.set(message.key);
    const fresh = $("seat").hidden;
    $("consent").hidden = true;
    $("seat").hidden = false;
    if (fresh) document.querySelector("#seat h1").focus(); // what was pressed is gone
    show("live", "Taking part");
  } else if (message.type === "question") drawQuestion(message.question);
  else if (message.type === "took") tell(SAID[message.do] ?? "");
  else if (message.type === "not") tell(`${message.why[0].toUpperCase()}${message.why.slice(1)}.`);
  else if (message.type === "withdrawn") left("You have left. Your part of this minute is taken back.");
  else if (message.type === "refused") {
    consented = false;
    kept.set("");
    $("seat").hidden = true;
    $("consent").hidden = false;
    $("refused").hidden = false;
    say($("refused"), `${message.why[0].toUpperCase()}${message.why.slice(1)}.`);
    show("connecting", "Not taking part");
  }
}

function left(text) {
  consented = false;
  clearTimeout(timer);
  kept.set("");
  const ws = socket;
  socket = null;
  ws?.close();
  $("seat").hidden = true;
  $("consent").hidden = false;
  document.querySelector("#consent h1").focus();
  $("declined").hidden = false;
  say($("declined"), text);
  show("connecting", "Not taking part");
}

let telling = 0;
function tell(text) {
  say($("said"), text);
  clearTimeout(telling);
  telling = setTimeout(() => say($("said"), ""), SHOWN_MS);
}

function send(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
  else tell("Not connected just now; try again in a moment.");
}

function drawQuestion(now) {
  question = now;
  $("ask").hidden = now === null;
  if (now === null) return;
  say($("ask-text"), now.text);
  say($("ask-said"), "");
  const boxes = now.options.map((option, k) => {
    const box = button("option", "", () => {
      send({ do: "answer", number: now.number, option: k });
      for (const other of boxes) other.disabled = true;
      box.classList.add("chosen");
      say($("ask-said"), "One answer each.");
    });
    box.append(el("span", "letter", "ABCD"[k]), el("span", "", option));
    return box;
  });
  $("options").replaceChildren(...boxes);
}

$("join").addEventListener("click", () => {
  $("refused").hidden = true;
  $("declined").hidden = true;
  consented = true;
  open();
});
$("code").addEventListener("keydown", (event) => {
  if (event.key === "Enter") $("join").click();
});
$("decline").addEventListener("click", () => {
  $("declined").hidden = false;
  say($("declined"), "Fine. Nothing was sent and nothing is open. You can change your mind here at any time.");
});
$("leave").addEventListener("click", () => {
  if (socket?.readyState === WebSocket.OPEN) send({ do: "withdraw" });
  else left("You have left. The room forgets this seat within two minutes.");
});
for (const act of document.querySelectorAll(".act")) {
  act.addEventListener("click", () => {
    send({ do: act.dataset.do });
    act.classList.add("on");
    setTimeout(() => act.classList.remove("on"), SHOWN_MS);
  });
}
$("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("line").value.trim();
  if (!text) return;
  send({ do: "chat", text });
  $("line").value = "";
});
if (kept.get()) {
  consented = true; // this tab has consented already: a reload is no withdrawal
  open();
}
