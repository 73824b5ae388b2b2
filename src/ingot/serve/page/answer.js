/* How one answer looks: its text or its tokens, and what can be done with it. */

import { button, copier, element } from "./made.js";
import { words } from "./server.js";
import { render } from "./text.js";
import { closeTip, showTokens } from "./tokens.js";

export class AnswerView {
  /* `again` asks for the answer once more. */
  constructor(model, again) {
    this.again = again;
    this.answer = null;
    this.root = element("article", "message assistant busy");
    this.root.setAttribute("aria-busy", "true");
    this.text = element("div", "text");
    this.root.append(element("h3", "who", model), this.text);
  }

  /* Shows what there is of the answer so far. */
  grow(answer) {
    this.answer = answer;
    render(this.text, answer.text);
  }

  /* Shows it for good; `context` is how many tokens the model reads. */
  finish(answer, context) {
    this.settle();
    this.answer = answer;
    this.probabilities = button("Probabilities", () => this.show(this.shown === "text" ? "tokens" : "text"));
    const below = element("div", "below");
    below.append(button("Regenerate", this.again, "again"), copier("Copy", () => answer.text));
    if (answer.tokens.length) below.append(this.probabilities);
    below.append(element("span", "", facts(answer, context)));
    this.root.append(below);
    this.show("text");
    if (answer.unread) {
      const turns = answer.unread === 1 ? "question is" : `${answer.unread} questions are`;
      const note = `The conversation has outgrown the model's context: its first ${turns} no longer read.`;
      this.root.append(element("p", "note", note));
    }
  }

  /* Shows the "text", or the "tokens" with their probabilities. */
  show(what) {
    this.shown = what;
    closeTip();
    this.probabilities.setAttribute("aria-pressed", String(what === "tokens"));
    if (what === "tokens") showTokens(this.text, this.answer.tokens);
    else render(this.text, this.answer.text);
  }

  /* Says what went wrong, below what came before it. */
  fail(error) {
    this.settle();
    const line = element("p", "trouble", `${words(error)} `);
    line.append(button("Try again", this.again, "again"));
    this.root.append(line);
  }

  settle() {
    this.root.classList.remove("busy");
    this.root.removeAttribute("aria-busy");
  }

  /* An answer that is not the last one is not made anew. */
  old() {
    for (const control of this.root.querySelectorAll(".again")) control.remove();
  }
}

function facts({ usage, seconds, finish_reason: reason }, context) {
  const said = [];
  if (usage) {
    said.push(`${usage.completion_tokens} tokens`);
    if (seconds) said.push(`${Math.round(usage.completion_tokens / seconds)} tokens/s`);
  }
  if (reason === "length") {
    said.push(usage?.total_tokens >= context ? "the context is full" : "reached the longest answer");
  }
  if (reason === "stopped") said.push("stopped");
  return said.join(" · ");
}
