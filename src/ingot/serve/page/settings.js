/*
 * What the reader wants of answers. A control that stands where nothing changes is left out of requests, so
 * that the server's own defaults hold.
 */

import { find } from "./made.js";

/* By control: the field of a request, the value that asks for nothing, and decimals to show. */
const CONTROLS = {
  temperature: { field: "temperature", decimals: 2 },
  "top-p": { field: "top_p", neutral: 1, decimals: 2 },
  "top-k": { field: "top_k", neutral: 0 },
  "min-p": { field: "min_p", neutral: 0, decimals: 2 },
  length: { field: "max_tokens", decimals: 0 },
  seed: { field: "seed" },
  presence: { field: "presence_penalty", neutral: 0, decimals: 1 },
  frequency: { field: "frequency_penalty", neutral: 0, decimals: 1 },
  repetition: { field: "repetition_penalty", neutral: 1, decimals: 2 },
};

const system = find("system");

/* The fields that requests are to have. */
export function asked() {
  const fields = {};
  for (const [id, { field, neutral }] of Object.entries(CONTROLS)) {
    const { value, valueAsNumber } = find(id);
    if (value !== "" && Number.isFinite(valueAsNumber) && valueAsNumber !== neutral) fields[field] = valueAsNumber;
  }
  return fields;
}

/* What the model is told before everything else, or "". */
export const instructions = () => system.value.trim();

/* Tokens of an answer at most. */
export const longest = () => find("length").valueAsNumber;

/* No answer is longer than half of the context. */
export function fit(context) {
  find("length").max = Math.max(16, Math.min(4096, Math.floor(context / 2 / 16) * 16));
  show();
}

function show() {
  for (const [id, { decimals }] of Object.entries(CONTROLS)) {
    const output = find(`${id}-shown`);
    if (output) output.textContent = find(id).valueAsNumber.toFixed(decimals);
  }
}

function reset() {
  for (const id of Object.keys(CONTROLS)) find(id).value = find(id).defaultValue;
  system.value = "";
  show();
}

find("settings").addEventListener("input", show);
find("reset").addEventListener("click", reset);
show();
