// Package openai is the OpenAI wire format as a gateway needs it: it reads what it must know from a
// request or an answer in one pass and changes a few members by splicing, so that everything else
// (unknown fields, key order, white space, big numbers, unicode) travels byte for byte.
//
// Nothing is decoded into maps or structs and encoded again. One scanner (scan.go) checks that a
// text is JSON: iterative, at most MaxDepth deep, valid UTF-8, no key twice where it matters. On top
// of it stand
//
//   - Request: the client's body; Edit gives the Body that is sent upstream, as segments;
//   - Reply and Chunk: a unary answer and one payload of a stream, with what both share in Answer;
//   - StreamEditor and Progress: the two things that last as long as a stream: what the client has
//     seen so far, and what one upstream has finished;
//   - SSEReader, AppendEvent, AppendDone: the event stream around the chunks;
//   - UpstreamError and AppendError: any engine's failure in, OpenAI's error envelope out.
//
// Errors that a client caused are *fault.Error of kind Invalid; a broken answer of an upstream is a
// *MalformedError, which a caller may treat as a reason to try the next candidate.
package openai
