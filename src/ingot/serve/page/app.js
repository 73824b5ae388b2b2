/*
 * The chat page. One conversation, kept in this tab only, streamed from the server that served it.
 *
 * `/?ask=...` sends a first message by itself: for links, tests and screenshots. That one answer comes in
 * one piece, so that a browser which stops its clock after the page has loaded still shows all of it.
 */

import { inline, render } from "./text.js";

const find = (id) => document.getElementById(id);
const page = Object.fromEntries(
  ["model", "clear", "toggle", "settings", "system", "temperature", "length", "key", "conversation",
    "welcome", "examples", "messages", "composer", "question", "send", "stop", "status"]
    .map((id) => [id, find(id)]));

/* What has been said: {role, content}. The first `cut` of them no longer fit the model's context. */
let said = [];
let cut = 0;
let running = null; // the AbortController of the answer that is being made
let model = { id: null, context: 2048 };

/* ---- talking to the server ---- */

class Refusal extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.code = error.code;
  }
}

async function call(path, options = {}) {
  const headers = { "content-type": "application/json" };
  if (page.key.value) headers.authorization = `Bearer ${page.key.value}`;
  const response = await fetch(path, { ...options, headers });
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw new Refusal(response.status, body.error ?? { message: `the server answered ${response.status}` });
}

/* Yields what the server says of an answer: every server-sent event, or the whole of it as one. */
async function* events(response) {
  if (response.headers.get("content-type") === "application/json") {
    const { choices: [choice], usage } = await response.json();
    yield { choices: [{ ...choice, delta: choice.message }], usage };
    return;
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const data = part.replace(/^data: /, "");
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new Refusal(503, event.error);
      yield event;
    }
  }
}

async function meetModel() {
  try {
    const list = await (await call("/v1/models")).json();
    model = list.data[0];
    const millions = model.parameters / 1e6;
    const size = millions >= 1000 ? `${(millions / 1000).toFixed(1)} billion`
      : millions >= 1 ? `${millions.toFixed(1)} million` : model.parameters.toLocaleString("en");
    page.model.textContent = `${model.id} · ${size} parameters · context ${model.context.toLocaleString("en")} tokens`;
    document.title = `${model.id} · ingot chat`;
    page.length.max = Math.max(16, Math.min(4096, Math.floor(model.context / 2 / 16) * 16));
    showSettings();
  } catch (error) {
    if (error.status === 401) return askForKey();
    page.model.textContent = "no connection to the server";
  }
}

/* ---- what is on the page ---- */

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function button(text, act) {
  const made = element("button", "", text);
  made.type = "button";
  made.addEventListener("click", act);
  return made;
}

function addMessage(role, content) {
  const message = element("article", `message ${role}`);
  message.append(element("h3", role === "user" ? "unseen" : "who", role === "user" ? "You" : model.id ?? "Model"));
  const text = element("div", "text");
  render(text, content);
  message.append(text);
  page.messages.append(message);
  return message;
}

/* Follows the text down, unless the reader has scrolled up to read. */
function nearEnd() {
  const { scrollTop, scrollHeight, clientHeight } = page.conversation;
  return scrollHeight - scrollTop - clientHeight < 120;
}

function toEnd() {
  page.conversation.scrollTop = page.conversation.scrollHeight;
}

function showSettings() {
  find("temperature-shown").textContent = Number(page.temperature.value).toFixed(2);
  find("length-shown").textContent = page.length.value;
}

function openSettings(open) {
  page.settings.hidden = !open;
  page.toggle.setAttribute("aria-expanded", String(open));
}

function askForKey() {
  find("key-field").hidden = false;
  openSettings(true);
  page.model.textContent = "this server asks for an API key";
  page.key.focus();
}

function showState() {
  const busy = running !== null;
  page.send.hidden = busy;
  page.stop.hidden = !busy;
  page.send.disabled = !page.question.value.trim();
  page.welcome.hidden = said.length > 0;
  page.clear.hidden = said.length === 0;
}

function fitQuestion() {
  page.question.style.height = "auto";
  page.question.style.height = `${page.question.scrollHeight}px`;
  showState();
}

/* ---- the conversation ---- */

function request(stream) {
  const system = page.system.value.trim();
  return {
    model: model.id,
    messages: [...(system ? [{ role: "system", content: system }] : []), ...said.slice(cut)],
    temperature: Number(page.temperature.value),
    max_tokens: Number(page.length.value),
    ...(stream ? { stream, stream_options: { include_usage: true } } : {}),
  };
}

/* Leaves out the oldest turn from now on. Returns whether there was one besides the last question. */
function cutTurn() {
  const next = said.findIndex((message, i) => i > cut && message.role === "user");
  if (next < 0) return false;
  cut = next;
  return true;
}

async function begin(stream, signal) {
  for (const before = cut; ;) {
    try {
      const body = JSON.stringify(request(stream));
      const response = await call("/v1/chat/completions", { method: "POST", body, signal });
      if (cut > before) noteCut(page.messages.lastElementChild);
      return response;
    } catch (error) {
      if (error.code !== "context_length_exceeded" || !cutTurn()) throw error;
    }
  }
}

/* Says that the model no longer reads everything; an older note to that effect goes. */
function noteCut(before = null) {
  for (const old of page.messages.querySelectorAll(".note")) old.remove();
  const note = `The conversation has outgrown the model's context: its first ${cut} messages are no longer read.`;
  page.messages.insertBefore(element("p", "note", note), before);
}

async function answer(stream = true) {
  const mine = said;
  const control = running = new AbortController();
  for (const old of page.messages.querySelectorAll(".again, .trouble")) old.remove();
  const message = addMessage("assistant", "");
  const text = message.querySelector(".text");
  message.classList.add("busy");
  message.setAttribute("aria-busy", "true");
  page.status.textContent = "The model is writing.";
  showState();
  toEnd();

  let content = "", counted = null, reason = "stopped", trouble = null;
  const started = performance.now();
  try {
    const response = await begin(stream, control.signal);
    for await (const { choices: [choice], usage } of events(response)) {
      counted = usage ?? counted;
      if (!choice) continue;
      reason = choice.finish_reason ?? reason;
      if (choice.delta.content) {
        const follow = nearEnd();
        content += choice.delta.content;
        render(text, content);
        if (follow) toEnd();
      }
    }
  } catch (error) {
    if (error.name !== "AbortError") trouble = error;
  }
  const seconds = stream ? (performance.now() - started) / 1000 : null;
  if (said !== mine) return; // a new conversation was begun meanwhile
  running = null;
  message.classList.remove("busy");
  message.removeAttribute("aria-busy");
  if (trouble && !content) message.remove();
  else finish(message, content, counted, seconds, reason);
  if (trouble?.status === 401) askForKey();
  if (trouble) showTrouble(trouble);
  page.status.textContent = trouble ? "There was a problem." : "The answer is finished.";
  if (counted) makeRoom(counted.total_tokens);
  showState();
  toEnd();
}

function showTrouble(error) {
  const what = error instanceof TypeError ? "The server cannot be reached." : error.message;
  const line = element("p", "trouble", `${what} `);
  line.append(button("Try again", () => {
    line.remove();
    if (!running) answer();
  }));
  page.messages.append(line);
}

/* Puts what can be done with an answer, and how it went (`seconds` where they were measured), below it. */
function finish(message, content, counted, seconds, reason) {
  said.push({ role: "assistant", content });
  const below = element("div", "below");
  const again = button("Regenerate", regenerate);
  again.className = "again";
  below.append(again, button("Copy", () => navigator.clipboard.writeText(content)));
  const facts = [];
  if (counted) {
    facts.push(`${counted.completion_tokens} tokens`);
    if (seconds) facts.push(`${Math.round(counted.completion_tokens / seconds)} tokens/s`);
  }
  const full = counted?.total_tokens >= model.context;
  if (reason === "length") facts.push(full ? "the context is full" : "reached the longest answer");
  if (reason === "stopped") facts.push("stopped");
  below.append(element("span", "", facts.join(" · ")));
  message.append(below);
}

/* The next question needs room for an answer: the oldest turn goes before it would be squeezed. */
function makeRoom(used) {
  const wanted = Math.min(Number(page.length.value), model.context / 4);
  if (used > model.context - wanted && said.length - cut > 2 && cutTurn()) noteCut();
}

function ask(content, stream = true) {
  if (running || !content.trim()) return;
  said.push({ role: "user", content });
  addMessage("user", content);
  answer(stream);
}

function regenerate() {
  if (running || said.at(-1)?.role !== "assistant") return;
  said.pop();
  [...page.messages.querySelectorAll(".assistant")].at(-1).remove();
  answer();
}

function clear() {
  running?.abort();
  running = null;
  said = [];
  cut = 0;
  page.messages.replaceChildren();
  showState();
  page.question.focus();
}

/* ---- what the reader does ---- */

page.composer.addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) return;
  const content = page.question.value;
  page.question.value = "";
  fitQuestion();
  ask(content);
});
page.question.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    page.composer.requestSubmit();
  }
});
page.question.addEventListener("input", fitQuestion);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
});
page.stop.addEventListener("click", () => { running?.abort(); page.question.focus(); });
page.clear.addEventListener("click", clear);
page.toggle.addEventListener("click", () => openSettings(page.settings.hidden));
for (const example of page.examples.children) {
  const content = example.textContent;
  example.replaceChildren(...inline(content));
  example.addEventListener("click", () => ask(content));
}
page.temperature.addEventListener("input", showSettings);
page.length.addEventListener("input", showSettings);
page.key.addEventListener("change", () => {
  sessionStorage.setItem("ingot-key", page.key.value);
  meetModel();
});

page.key.value = sessionStorage.getItem("ingot-key") ?? "";
showSettings();
showState();
page.question.focus();
await meetModel();
const first = new URLSearchParams(location.search).get("ask");
if (first) ask(first, false);
