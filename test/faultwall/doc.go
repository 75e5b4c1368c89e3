// Package faultwall is a provider that fails on demand. It speaks the OpenAI-compatible API over TCP that
// it writes itself, because net/http is too polite to break off inside a header.
//
// # What it says
//
// An answer is a pure function of the request, the same on every wall server: Request.Answer is what a
// client should have received, whatever happened on the way. The model's name has no part in it. A request may
// say how long the answer is, in the member "pieces".
//
// An assistant message at the end of a chat, and what follows the last question mark of a prompt,
// is the beginning of an answer. Server.Prefill says what a server makes of that.
//
// # How it fails
//
// A Fault is one way to fail. Catalogue lists them all, README.md shows them as a table; those that
// take an index, such as CutAfter, can be had for every chunk of an answer. A server plays one fault for every call,
// or whatever a script chooses for each.
package faultwall
