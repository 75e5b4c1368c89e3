// Package admission decides whether a request may begin: every limit and budget that applies to it has to have room.
// What it takes of them before the first attempt is an estimate; what the request has come to replaces it at the end.
// The counts are kept by cluster.Meters, in memory or in Redis.
package admission
