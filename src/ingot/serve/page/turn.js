/* How one turn looks: the question, which can be edited, and the answers beside each other. */

import { button, copier, element } from "./made.js";
import { render } from "./text.js";

export class TurnView {
  /* `edited` is called with what the reader makes of the question. */
  constructor(turn, edited) {
    this.turn = turn;
    this.edited = edited;
    this.views = [null, null];
    this.root = element("section", "turn");
    this.question = element("article", "message user");
    this.answers = element("div", "answers");
    this.root.append(this.question, this.answers);
    this.showQuestion();
  }

  showQuestion() {
    const text = element("div", "text");
    render(text, this.turn.question);
    const below = element("div", "below");
    this.edit = button("Edit", () => this.editQuestion());
    below.append(this.edit, copier("Copy", () => this.turn.question));
    this.question.replaceChildren(element("h3", "unseen", "You"), text, below);
  }

  editQuestion() {
    const form = element("form", "edit");
    const field = element("textarea");
    field.value = this.turn.question;
    field.setAttribute("aria-label", "Edit the message");
    field.rows = Math.min(12, field.value.split("\n").length + 1);
    const below = element("div", "below");
    const send = element("button", "", "Send");
    below.append(button("Cancel", () => this.leaveEditing()), send);
    form.append(field, below);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (field.value.trim()) this.edited(field.value);
    });
    field.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.stopPropagation(); // it ends the editing, not an answer
        this.leaveEditing();
      }
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        form.requestSubmit();
      }
    });
    this.question.replaceChildren(form);
    field.focus();
  }

  leaveEditing() {
    this.showQuestion();
    this.edit.focus();
  }

  /* Puts an answer into its column, in place of one that was there. */
  put(column, view) {
    this.views[column]?.root.remove();
    this.views[column] = view;
    this.answers.append(...this.views.filter(Boolean).map((one) => one.root));
  }

  drop(column) {
    this.views[column]?.root.remove();
    this.views[column] = null;
  }

  old() {
    for (const view of this.views) view?.old();
  }
}
