// Package telemetry makes what happened visible to operators: metrics, traces, an access log and the
// log itself. It reads finished usage records and never takes part in a request; nothing in it holds
// what was said.
package telemetry
