// Package standby is the safety net: an application keeps its SDK, its provider and its key, and its
// requests go straight to that provider, the primary, as long as it is well. When the primary fails, the same
// request goes to a ShareAI gateway and the application does not notice.
//
// # The two ways
//
// A request for a path that the gateway serves too (POST chat/completions, completions and embeddings, GET
// models) has the net under it. It goes to the primary first:
//
//	client ──► stand-by ──► primary     with the client's own credential, head and body
//	               │
//	               └──────► gateway     with the ShareAI key, when the primary failed before the commit
//	                                    point, or when its circuit is open
//
// The circuit is the one of package health, one for each model: five failures in a row open it, then the
// gateway is asked at once, and real requests find out from time to time whether the primary is back.
// When the gateway fails as well, the primary is asked all the same, and what it says is the answer.
//
// Every other path is passed to the primary, whatever it answers.
//
// # What is a failure of the primary
//
// No connection, no answer in time, a broken answer, a status of 402, 408, 409, 425, 429 or 5xx; a 200 whose
// body is no JSON of the API, or an error; a stream that ends, breaks or reports an error before its first
// content. Other 4xx are of the client's own making and returned. Once the first content has gone to the
// client, nothing can be taken back: a stream that breaks then, or ends without having finished, is cut, so
// that the client does not take half an answer for a whole one.
//
// # Whose key goes where
//
// The primary gets the head of the request as it came, without the headers that concern the connection. The
// gateway gets the few headers that it has a use for and the ShareAI key. So no credential of the one reaches the
// other, in whichever header or query parameter the provider wants it. Neither is ever logged.
//
// The ShareAI key is spent only for requests that carry a credential, whichever: a web page that makes
// a browser send requests to the stand-by's port has none to send.
package standby
