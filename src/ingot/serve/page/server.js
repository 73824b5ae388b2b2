/* Talking to the server: its key, its refusals, its models and its streams. */

export class Refusal extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.code = error.code;
  }
}

const KEY = "ingot-key"; // kept until the tab is closed

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => sessionStorage.setItem(KEY, value),
};

export async function call(path, options = {}) {
  const headers = { "content-type": "application/json" };
  if (key.get()) headers.authorization = `Bearer ${key.get()}`;
  const response = await fetch(path, { ...options, headers });
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw new Refusal(response.status, body.error ?? { message: `the server answered ${response.status}` });
}

/* The models that write; encoders only read. */
export async function models() {
  const { data } = await (await call("/v1/models")).json();
  return data.filter(({ kind }) => kind !== "encoder");
}

/* Yields what the server says of an answer: every server-sent event, or the whole of it as one. */
export async function* events(response) {
  if (response.headers.get("content-type").startsWith("application/json")) {
    const { choices: [choice], usage } = await response.json();
    yield { choices: [{ ...choice, delta: choice.message }], usage };
    return;
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Refusal(503, { message: "The connection ended before the answer did." });
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      if (!part.startsWith("data: ")) continue; // a comment that keeps the connection open
      const data = part.slice(6);
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new Refusal(503, event.error);
      yield event;
    }
  }
}

/* What went wrong, in words for a reader. */
export function words(error) {
  if (error instanceof TypeError) return "The server cannot be reached.";
  const { message } = error;
  const sentence = message.charAt(0).toUpperCase() + message.slice(1);
  return /[.!?]$/.test(sentence) ? sentence : `${sentence}.`;
}

/* "aligned@1 · 2.8 million parameters · context 512 tokens" */
export function described({ id, parameters, context }) {
  const millions = parameters / 1e6;
  const size = millions >= 1000 ? `${(millions / 1000).toFixed(1)} billion`
    : millions >= 1 ? `${millions.toFixed(1)} million` : parameters?.toLocaleString("en");
  return [id, parameters && `${size} parameters`, context && `context ${context.toLocaleString("en")} tokens`]
    .filter(Boolean).join(" · ");
}
