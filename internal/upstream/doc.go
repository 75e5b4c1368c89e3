// Package upstream speaks to one deployment: one call in, one answer or one classified error out.
// It knows nothing of retries, fallbacks or deadlines beyond the connect deadline; package attempt
// decides those by the Outcome of an Error and ends a call by cancelling its context.
//
// A call passes through three layers, each behind a small interface:
//
//	Client.Do       reads the answer, checks that it is what was asked for, classifies what is not
//	dialect         says where the request goes, how it authenticates and how the body changes
//	RoundTripper    carries it: plainTransport (http), http.Transport (https), simulation (no network)
//
// Every connection to the outside is made by egress, which checks the address that is really dialled,
// after the name has been resolved. Nothing here follows a redirect or uses a proxy: both would lead
// to an address that was not checked.
package upstream
