// The models: llama.cpp in this process, through node-llama-cpp. Nothing here knows the OpenAI protocol.
import { randomInt } from "node:crypto";
import { getLlama, LlamaCompletion, LlamaLogLevel } from "node-llama-cpp";

const CONTEXT = 2048; // tokens of prompt and answer together
const PARALLEL = 4; // generations at a time; further ones wait

export class PromptTooLong extends Error {}

/** Loads both models on one thread: two spinning threads on a busy machine make an answer of 20 ms take seconds. */
export async function loadModels({ chatPath, embedPath }) {
  const llama = await getLlama({ gpu: false, build: "never", maxThreads: 1, logLevel: LlamaLogLevel.error });
  const chatModel = await llama.loadModel({ modelPath: chatPath });
  const embedModel = await llama.loadModel({ modelPath: embedPath });
  const context = await chatModel.createContext({ contextSize: CONTEXT, sequences: PARALLEL });
  const embeddings = await embedModel.createEmbeddingContext();
  return { chat: new Chat(llama, chatModel, context), embed: new Embed(embeddings) };
}

class Chat {
  #llama;
  #model;
  #context;
  #waiting = [];

  constructor(llama, model, context) {
    this.#llama = llama;
    this.#model = model;
    this.#context = context;
  }

  /**
   * Continues a prompt. onText is called with every piece of text as it comes.
   * sampling: {temperature, topP, seed, maxTokens, stop: [string], ignoreEnd, schema}; with ignoreEnd a line feed takes
   * the place of the end, up to maxTokens.
   * Resolves to {text, finish: "stop" | "length", promptTokens, completionTokens}; an aborted signal ends it early.
   */
  async generate(prompt, sampling, { signal, onText = () => {} }) {
    const input = [this.#model.tokens.bos, ...this.#model.tokenize(prompt, true)];
    const room = CONTEXT - input.length - 1;
    if (room < 1) throw new PromptTooLong(`the prompt has ${input.length} tokens, the context has room for ${CONTEXT}`);
    const limit = Math.min(sampling.maxTokens ?? room, room);
    const lineFeed = this.#model.tokenize("\n").at(-1); // without the blank that the tokenizer begins with
    const grammar = sampling.schema && (await this.#llama.createGrammarForJsonSchema(sampling.schema));
    const sequence = await this.#takeSequence(signal);
    const completion = new LlamaCompletion({ contextSequence: sequence });
    const output = [];
    let text = "";
    let stopReason;
    try {
      do {
        const part = await completion.generateCompletionWithMeta([...input, ...output], {
          signal,
          grammar,
          onTextChunk: onText,
          onToken: (tokens) => output.push(...tokens),
          stopOnAbortSignal: true,
          repeatPenalty: false, // a model that only knows bigrams has to repeat itself
          temperature: sampling.temperature,
          topP: sampling.topP,
          seed: sampling.seed ?? randomInt(2 ** 31),
          maxTokens: limit - output.length,
          customStopTriggers: sampling.stop,
        });
        text += part.response;
        stopReason = part.metadata.stopReason;
        if (stopReason !== "eogToken" || !sampling.ignoreEnd) break;
        output.push(lineFeed);
        text += "\n";
        onText("\n");
      } while (output.length < limit);
      const finish = stopReason === "maxTokens" || output.length >= limit ? "length" : "stop";
      return { text, finish, promptTokens: input.length, completionTokens: output.length };
    } finally {
      completion.dispose();
      await this.#giveBack(sequence);
    }
  }

  async #takeSequence(signal) {
    while (this.#context.sequencesLeft === 0) {
      signal?.throwIfAborted();
      await new Promise((resolve) => this.#waiting.push(resolve));
    }
    return this.#context.getSequence();
  }

  async #giveBack(sequence) {
    await sequence.dispose();
    this.#waiting.shift()?.();
  }
}

class Embed {
  #context;

  constructor(context) {
    this.#context = context;
  }

  /** Resolves to {vector: Float32Array of length 1, tokens}. */
  async vector(text) {
    const tokens = this.#context.calculateInputLength(text);
    const { vector } = await this.#context.getEmbeddingFor(text);
    const length = Math.hypot(...vector);
    return { vector: Float32Array.from(vector, (x) => x / length), tokens };
  }
}
