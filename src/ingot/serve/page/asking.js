/* One answer, from the request to its end; nothing here knows of the document. */

import { asked, instructions, longest } from "./settings.js";
import { call, events } from "./server.js";

const ALTERNATIVES = 5; // tokens that might have stood in each place

/*
 * Yields the answer as it grows: {model, text, tokens, usage, seconds, finish_reason, unread}, the same object
 * each time. `unread` counts the turns that the model no longer reads. A stop by the reader is no error.
 */
export async function* answers(conversation, column, model, stream, signal) {
  const answer = {
    model: model.id, text: "", tokens: [], usage: null, seconds: null, finish_reason: "stopped", unread: 0,
  };
  const began = performance.now();
  try {
    const response = await begin(conversation, column, model, stream, signal, answer);
    yield answer;
    for await (const { choices: [choice], usage } of events(response)) {
      answer.usage = usage ?? answer.usage;
      if (!choice) continue;
      answer.text += choice.delta.content ?? "";
      answer.tokens.push(...choice.logprobs?.content ?? []);
      answer.finish_reason = choice.finish_reason ?? answer.finish_reason;
      yield answer;
    }
  } catch (error) {
    if (error.name !== "AbortError") throw error;
  }
  if (stream) answer.seconds = (performance.now() - began) / 1000;
  if (answer.usage) makeRoom(conversation, column, model, answer);
  yield answer;
}

/* Sends the question; while the conversation is longer than the context, without its oldest turn. */
async function begin(conversation, column, model, stream, signal, answer) {
  for (;;) {
    const body = JSON.stringify({
      model: model.id,
      messages: conversation.messages(column, instructions()),
      ...asked(),
      logprobs: true,
      top_logprobs: ALTERNATIVES,
      ...(stream ? { stream, stream_options: { include_usage: true } } : {}),
    });
    try {
      return await call("/v1/chat/completions", { method: "POST", body, signal });
    } catch (error) {
      if (error.code !== "context_length_exceeded" || !conversation.leaveOut(column)) throw error;
      answer.unread = conversation.read[column];
    }
  }
}

/* The next question needs room for an answer: the oldest turn goes before it would be squeezed. */
function makeRoom(conversation, column, model, answer) {
  const wanted = Math.min(longest(), model.context / 4);
  if (answer.usage.total_tokens > model.context - wanted && conversation.leaveOut(column)) {
    answer.unread = conversation.read[column];
  }
}
