// Camera and microphone of one seat. No socket is opened before consent was given and the browser has let a device go on.

const $ = (id) => document.getElementById(id);
const PICTURE = 1, SOUND = 2, HEAD = 13;
const EVERY_MS = 200, SIDE = 320, QUALITY = 0.7, MOST_WAITING = 1_000_000, RATE = 16_000;
const LOST = "The connection was lost; everything is off. The room forgets this seat within two minutes.";
const OF = { video: "face", audio: "voice" }, DEVICES = { video: "camera", audio: "microphone" };
const asked = new URLSearchParams(location.search);
const room = asked.get("room") ?? "";
const numbers = { [PICTURE]: 0, [SOUND]: 0 };
let media = null, socket = null, timer = 0, sound = null, sent = 0, kept = "";

$("code").value = asked.get("code") ?? "";
$("room").textContent = room ? `Room ${room}` : "Room";

function show(state, text) {
  $("link").dataset.state = state;
  $("link-text").textContent = text;
}

function trouble(text) {
  $("refused").hidden = !text;
  $("refused").textContent = text;
}

async function on() {
  trouble("");
  $("declined").hidden = true;
  const wanted = { video: $("camera").checked && { width: { ideal: 640 } }, audio: $("microphone").checked && { echoCancellation: false, noiseSuppression: false, autoGainControl: false } };
  if (!wanted.video && !wanted.audio) return trouble("Tick what may be used.");
  try {
    media = await navigator.mediaDevices.getUserMedia(wanted);
  } catch (error) {
    show("connecting", "Off");
    return trouble(error.name === "NotAllowedError" ? "The browser was told not to allow it. Nothing was sent." : `No camera or microphone could be used (${error.name}). Nothing was sent.`);
  }
  connect();
}

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const ws = (socket = new WebSocket(`${scheme}://${location.host}/capture/ws`));
  ws.binaryType = "arraybuffer";
  show("waiting", "Connecting");
  ws.onopen = () => ws.send(JSON.stringify({ do: "join", room, code: $("code").value }));
  ws.onmessage = (event) => {
    const message = JSON.parse(new TextDecoder().decode(event.data));
    if (message.type === "seat") {
      kept = message.kept;
      start(message.modalities);
    }
    else if (message.type === "counts") counts(message);
    else if (message.type === "refused") off(`${message.why[0].toUpperCase()}${message.why.slice(1)}.`);
    else if (message.type === "withdrawn") off("");
  };
  ws.onclose = () => ws === socket && off(LOST);
}

function counts(told) {
  const lost = told.missing + told.hurried + told.refused + told.overtaken;
  const fate = kept ? `stored in the log for ${kept}` : "scored and thrown away";
  $("sent").textContent = `${told.taken} pieces taken, ${fate}${lost ? `; ${lost} lost, late or left out` : ""}.`;
}

async function start(modalities) {
  $("consent").hidden = true;
  $("running").hidden = false;
  show("live", "On");
  for (const track of media.getTracks()) if (!modalities.includes(OF[track.kind])) leave(track);
  const names = media.getTracks().map((track) => DEVICES[track.kind]).sort();
  const what = names.join(" and ");
  $("what").textContent = what ? `${what[0].toUpperCase()}${what.slice(1)} ${names.length > 1 ? "are" : "is"} on` : "Nothing is on: this room takes neither";
  $("what").focus();
  const mirror = $("mirror");
  mirror.hidden = media.getVideoTracks().length === 0;
  if (!mirror.hidden) {
    mirror.srcObject = media;
    await mirror.play();
    const canvas = document.createElement("canvas");
    timer = setInterval(() => picture(mirror, canvas), EVERY_MS);
  }
  if (media.getAudioTracks().length) {
    sound = new AudioContext({ sampleRate: RATE });
    await sound.audioWorklet.addModule("/capture/capture-sound.js");
    const pieces = new AudioWorkletNode(sound, "pieces");
    pieces.port.onmessage = (event) => send(SOUND, new Uint8Array(event.data.buffer));
    sound.createMediaStreamSource(media).connect(pieces);
  }
}

/** A device this room does not take is let go, not left on unused. */
function leave(track) {
  track.stop();
  media.removeTrack(track);
}

function picture(mirror, canvas) {
  if (!mirror.videoWidth) return;
  const factor = SIDE / Math.min(mirror.videoWidth, mirror.videoHeight);
  canvas.width = Math.round(mirror.videoWidth * Math.min(1, factor));
  canvas.height = Math.round(mirror.videoHeight * Math.min(1, factor));
  canvas.getContext("2d").drawImage(mirror, 0, 0, canvas.width, canvas.height);
  canvas.toBlob(async (blob) => blob && send(PICTURE, new Uint8Array(await blob.arrayBuffer())), "image/jpeg", QUALITY);
}

function send(kind, body) {
  numbers[kind] += 1;
  if (socket?.readyState !== WebSocket.OPEN) return;
  if (socket.bufferedAmount > MOST_WAITING) {
    return; // the line is slower than the camera: the gap in the numbers says so
  }
  const message = new Uint8Array(HEAD + body.length), view = new DataView(message.buffer);
  view.setUint8(0, kind);
  view.setUint32(1, numbers[kind]);
  view.setBigUint64(5, BigInt(Date.now()));
  message.set(body, HEAD);
  socket.send(message);
  sent += 1;
  if (sent === 1) $("sent").textContent = "The first piece was sent.";
}

function off(why) {
  clearInterval(timer);
  sound?.close();
  sound = null;
  for (const track of media?.getTracks() ?? []) track.stop();
  media = null;
  const ws = socket;
  socket = null;
  ws?.close();
  $("running").hidden = true;
  $("consent").hidden = false;
  if (!why) $("camera").checked = $("microphone").checked = false; // withdrawn: the next time is asked anew
  document.querySelector("#consent h1").focus();
  trouble(why);
  $("declined").hidden = Boolean(why);
  const left = kept && sent ? ` What was stored stays in the log for ${kept}.` : "";
  $("declined").textContent = `Off. Your part of this minute is taken back.${left}`;
  show("connecting", "Off");
}

$("on").addEventListener("click", on);
$("decline").addEventListener("click", () => {
  trouble("");
  $("declined").hidden = false;
  $("declined").textContent = "Fine. Nothing is on and nothing was sent.";
});
$("off").addEventListener("click", () => (socket?.readyState === WebSocket.OPEN ? socket.send(JSON.stringify({ do: "withdraw" })) : off(LOST)));
