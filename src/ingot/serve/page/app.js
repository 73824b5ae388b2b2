/*
 * The chat page. One conversation, kept in this tab only, streamed from the server that served it, with one
 * model or with two beside each other.
 *
 * `/?ask=...` sends a first message by itself: for links, tests and screenshots. That one answer comes in
 * one piece, so that a browser which stops its clock after the page has loaded still shows all of it.
 * `model=...` and `second=...` beside it name the models.
 */

import { AnswerView } from "./answer.js";
import { answers } from "./asking.js";
import { Conversation } from "./conversation.js";
import { element, find } from "./made.js";
import { described, key, models } from "./server.js";
import { asked, fit, instructions } from "./settings.js";
import { inline } from "./text.js";
import { closeTip, placeTip } from "./tokens.js";
import { TurnView } from "./turn.js";

const page = Object.fromEntries(
  ["model", "choice", "second", "compare", "export", "clear", "toggle", "settings", "key", "conversation",
    "welcome", "examples", "messages", "composer", "question", "send", "stop", "status"]
    .map((id) => [id, find(id)]));

let served = [];
let conversation = new Conversation();
let turns = []; // the views of the conversation's turns
const running = new Map(); // by column: the AbortController of the answer that is being made

const chosen = [page.choice, page.second];
const comparing = () => page.compare.getAttribute("aria-pressed") === "true";
const columns = () => (comparing() ? [0, 1] : [0]);
const modelOf = (column) => served.find(({ id }) => id === chosen[column].value) ?? served[0];

/* ---- models ---- */

async function meetModels() {
  try {
    served = await models();
  } catch (error) {
    if (error.status === 401) return askForKey();
    page.model.textContent = "no connection to the server";
    return;
  }
  for (const [column, select] of chosen.entries()) {
    select.replaceChildren(...served.map(({ id }) => new Option(id)));
    select.selectedIndex = Math.min(column, served.length - 1);
  }
  page.compare.hidden = served.length < 2;
  showModels();
}

function showModels() {
  const shown = columns().map(modelOf).filter(Boolean);
  page.model.textContent = shown.length === 1 ? described(shown[0])
    : shown.length ? shown.map(({ id }) => id).join(" beside ") : "this server has no model to chat with";
  document.title = `${shown.map(({ id }) => id).join(", ") || "ingot"} · ingot chat`;
  page.choice.hidden = served.length < 2;
  page.second.hidden = !comparing();
  document.body.classList.toggle("comparing", comparing());
  const contexts = shown.map(({ context }) => context).filter(Boolean);
  if (contexts.length) fit(Math.min(...contexts));
}

function compare(on) {
  page.compare.setAttribute("aria-pressed", String(on));
  if (on) conversation.double();
  for (const view of turns) {
    const answer = view.turn.answers[1];
    if (on && answer) showAnswer(view, 1, answer);
    else view.drop(1);
  }
  retire();
  showModels();
  showState();
}

/* ---- what is on the page ---- */

/* Follows the text down, unless the reader has scrolled up to read. */
function nearEnd() {
  const { scrollTop, scrollHeight, clientHeight } = page.conversation;
  return scrollHeight - scrollTop - clientHeight < 120;
}

function toEnd() {
  page.conversation.scrollTop = page.conversation.scrollHeight;
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
  const busy = running.size > 0;
  page.send.hidden = busy;
  page.stop.hidden = !busy;
  page.compare.disabled = busy;
  page.send.disabled = !page.question.value.trim();
  page.welcome.hidden = turns.length > 0;
  page.clear.hidden = page.export.hidden = turns.length === 0;
}

function fitQuestion() {
  page.question.style.height = "auto";
  page.question.style.height = `${page.question.scrollHeight}px`;
  showState();
}

/* Only the last turn's answers can be made anew. */
function retire() {
  for (const view of turns.slice(0, -1)) view.old();
}

function showAnswer(view, column, answer) {
  const shown = new AnswerView(answer.model, () => make(view, column));
  view.put(column, shown);
  shown.finish(answer, served.find(({ id }) => id === answer.model)?.context);
}

/* ---- the conversation ---- */

function ask(question, stream = true) {
  if (running.size || !question.trim()) return;
  const view = new TurnView(conversation.ask(question), (edited) => askInstead(view, edited));
  turns.push(view);
  retire();
  page.messages.append(view.root);
  for (const column of columns()) make(view, column, stream);
}

/* Asks something else in place of an earlier question; what followed it goes. */
function askInstead(view, question) {
  stop();
  running.clear();
  conversation.forgetFrom(view.turn);
  for (const gone of turns.splice(turns.indexOf(view))) gone.root.remove();
  ask(question);
  page.question.focus();
}

async function make(view, column, stream = true) {
  if (running.has(column)) return;
  const model = modelOf(column);
  const control = new AbortController();
  const shown = new AnswerView(model?.id ?? "Model", () => make(view, column));
  running.set(column, control);
  view.turn.answers[column] = null;
  view.put(column, shown);
  page.status.textContent = "The model is writing.";
  showState();
  toEnd();
  let answer = null, trouble = null;
  try {
    for await (answer of answers(conversation, column, model ?? { id: undefined }, stream, control.signal)) {
      const follow = nearEnd();
      shown.grow(answer);
      if (follow) toEnd();
    }
  } catch (error) {
    trouble = error;
  }
  if (running.get(column) !== control) return; // the reader has moved on
  settle(view, column, shown, answer, trouble);
}

function settle(view, column, shown, answer, trouble) {
  running.delete(column);
  const follow = nearEnd();
  const { context } = modelOf(column) ?? {};
  if (answer && (!trouble || answer.text)) {
    view.turn.answers[column] = answer;
    shown.finish(answer, context);
  }
  if (trouble) shown.fail(trouble);
  if (trouble?.status === 401) askForKey();
  page.status.textContent = trouble ? "There was a problem." : `The answer: ${answer.text}`;
  showState();
  if (follow) toEnd();
}

function stop() {
  for (const control of running.values()) control.abort();
}

function clear() {
  stop();
  running.clear();
  conversation = new Conversation();
  turns = [];
  page.messages.replaceChildren();
  closeTip();
  showState();
  page.question.focus();
}

function exportConversation() {
  const plain = conversation.exported(instructions(), asked());
  const link = element("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(plain, null, 2)], { type: "application/json" }));
  link.download = "conversation.json";
  link.click();
  URL.revokeObjectURL(link.href);
}

/* ---- what the reader does ---- */

page.composer.addEventListener("submit", (event) => {
  event.preventDefault();
  if (running.size) return;
  const question = page.question.value;
  page.question.value = "";
  fitQuestion();
  ask(question);
});
page.question.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    page.composer.requestSubmit();
  }
});
page.question.addEventListener("input", fitQuestion);
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  closeTip();
  stop();
});
page.conversation.addEventListener("scroll", placeTip);
page.stop.addEventListener("click", () => { stop(); page.question.focus(); });
page.clear.addEventListener("click", clear);
page.export.addEventListener("click", exportConversation);
page.compare.addEventListener("click", () => compare(!comparing()));
page.toggle.addEventListener("click", () => openSettings(page.settings.hidden));
for (const select of chosen) select.addEventListener("change", showModels);
for (const example of page.examples.children) {
  const content = example.textContent;
  example.replaceChildren(...inline(content));
  example.addEventListener("click", () => ask(content));
}
page.key.addEventListener("change", () => {
  key.set(page.key.value);
  meetModels();
});

page.key.value = key.get();
showState();
page.question.focus();
await meetModels();
const address = new URLSearchParams(location.search);
if (address.get("model")) page.choice.value = address.get("model");
if (address.get("second") && served.length > 1) {
  page.second.value = address.get("second");
  compare(true);
}
if (address.get("ask")) ask(address.get("ask"), false);
