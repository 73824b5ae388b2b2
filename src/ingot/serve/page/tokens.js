/*
 * An answer token by token, coloured by probability; pointing at one, or walking there with the arrow keys,
 * tells how probable it was and what else might have stood there.
 */

import { element, find } from "./made.js";

const tip = find("tip");
let told = null; // the token that it tells of

const percent = (logprob) => {
  const share = 100 * Math.exp(logprob);
  return share >= 99.95 ? "100 %" : share >= 0.1 ? `${share.toFixed(1)} %` : "< 0.1 %";
};

/* A token's text so that spaces and line ends can be seen. */
const visible = (text) => text.replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/^ | $/g, "␣") || "(nothing)";

/*
 * Joins tokens that are parts of one character. A piece is {text, tokens}; its text is what the tokens' bytes
 * say together.
 */
export function pieces(tokens) {
  const found = [];
  let open = [];
  for (const token of tokens) {
    open.push(token);
    const bytes = Uint8Array.from(open.flatMap((one) => one.bytes ?? [...new TextEncoder().encode(one.token)]));
    if (goesOn(bytes) && token !== tokens.at(-1)) continue;
    found.push({ text: new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes), tokens: open });
    open = [];
  }
  return found;
}

/* Whether bytes end in the middle of a character; those that are no text at all do not go on. */
function goesOn(bytes) {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  try {
    decoder.decode(bytes, { stream: true });
  } catch {
    return false;
  }
  try {
    decoder.decode();
    return false;
  } catch {
    return true;
  }
}

/* Replaces what `target` shows by the tokens. */
export function showTokens(target, tokens) {
  const line = element("div", "tokens");
  line.setAttribute("role", "group");
  line.setAttribute("aria-label", "The answer's tokens; the arrow keys go from one to the next");
  for (const piece of pieces(tokens)) {
    const logprob = piece.tokens.reduce((sum, token) => sum + token.logprob, 0);
    const shown = element("span", "token", piece.text.replace(/\n/g, "↵\n"));
    shown.style.setProperty("--p", Math.exp(logprob).toFixed(4));
    shown.tabIndex = -1;
    shown.piece = piece;
    line.append(shown);
  }
  if (line.firstChild) line.firstChild.tabIndex = 0;
  line.addEventListener("pointerover", ({ target: over }) => over.piece && openTip(over));
  line.addEventListener("pointerleave", closeTip);
  line.addEventListener("focusin", ({ target: over }) => openTip(over));
  line.addEventListener("focusout", closeTip);
  line.addEventListener("keydown", walk);
  target.replaceChildren(line);
}

function walk(event) {
  const here = event.target;
  const next = {
    ArrowRight: here.nextElementSibling,
    ArrowLeft: here.previousElementSibling,
    Home: here.parentElement.firstChild,
    End: here.parentElement.lastChild,
  }[event.key];
  if (!next) return;
  event.preventDefault();
  here.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

function openTip(over) {
  told = over;
  tip.replaceChildren(...over.piece.tokens.map(explained));
  tip.hidden = false;
  over.setAttribute("aria-describedby", tip.id);
  placeTip();
}

/* Keeps the tip beside its token, also while the conversation scrolls. */
export function placeTip() {
  if (tip.hidden) return;
  const at = told.getClientRects()[0];
  if (!at) return closeTip();
  const { offsetWidth: width, offsetHeight: height } = tip;
  const left = Math.max(8, Math.min(at.left, innerWidth - width - 8));
  const below = at.bottom + 6;
  tip.style.left = `${left}px`;
  tip.style.top = `${below + height > innerHeight - 8 ? Math.max(8, at.top - height - 6) : below}px`;
}

export function closeTip() {
  tip.hidden = true;
}

/* The token that was taken, first, and the likeliest ones, with a bar for each. */
function explained(token) {
  const table = element("table");
  const same = (other) => String(other.bytes ?? other.token) === String(token.bytes ?? token.token);
  const others = (token.top_logprobs ?? []).filter((other) => !same(other));
  for (const [i, one] of [token, ...others].entries()) {
    const row = table.insertRow();
    row.className = i ? "" : "taken";
    row.append(element("td", "what", visible(one.token)));
    const bar = element("span", "bar");
    bar.style.setProperty("--p", Math.exp(one.logprob).toFixed(4));
    row.insertCell().append(bar);
    row.append(element("td", "share", percent(one.logprob)));
  }
  return table;
}
