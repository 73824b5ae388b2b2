/*
 * What has been said: turns, each a question and one answer for every column that answered it. Each column is
 * a conversation of its own: its model reads the questions and its own answers.
 */

export class Conversation {
  constructor() {
    this.turns = [];
    this.read = [0, 0]; // by column: the first turn that still fits the model's context
  }

  ask(question) {
    const turn = { question, answers: [null, null] };
    this.turns.push(turn);
    return turn;
  }

  /* Forgets a turn and all that follow it. */
  forgetFrom(turn) {
    this.turns.length = this.turns.indexOf(turn);
    this.read = this.read.map((first) => Math.min(first, this.turns.length));
  }

  /* The second column begins with what the first has said. */
  double() {
    for (const turn of this.turns) turn.answers[1] = turn.answers[0];
    this.read[1] = this.read[0];
  }

  /* What a column's model is to read before it answers the last question. */
  messages(column, instructions) {
    const said = instructions ? [{ role: "system", content: instructions }] : [];
    const last = this.turns.at(-1);
    for (const turn of this.turns.slice(this.read[column])) {
      said.push({ role: "user", content: turn.question });
      if (turn !== last && turn.answers[column]) {
        said.push({ role: "assistant", content: turn.answers[column].text });
      }
    }
    return said;
  }

  /* Leaves out the oldest turn from now on. Returns whether there was one besides the last question. */
  leaveOut(column) {
    if (this.read[column] >= this.turns.length - 1) return false;
    this.read[column] += 1;
    return true;
  }

  /* Everything, as plain data. `messages` is the first column's conversation in OpenAI's shape. */
  exported(instructions, settings) {
    const messages = instructions ? [{ role: "system", content: instructions }] : [];
    for (const { question, answers: [first] } of this.turns) {
      messages.push({ role: "user", content: question });
      if (first) messages.push({ role: "assistant", content: first.text });
    }
    return {
      format: "ingot-conversation-1",
      exported: new Date().toISOString(),
      settings,
      messages,
      turns: this.turns.map(({ question, answers }) => ({ question, answers: answers.filter(Boolean) })),
    };
  }
}
