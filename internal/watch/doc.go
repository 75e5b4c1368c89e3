// Package watch looks at what goes on and keeps the episodes of alerts: budgets in the ledger, fallbacks and failures in
// what was counted, providers and models in what replicas know, nodes in their links.
//
// Every replica counts the requests that it has answered (Counter) and says which of its circuits are open (Reporter);
// both go into the database. One of them at a time, whose turn it is, judges (Watcher.Evaluate). Each change of an
// episode is stored together with the messages that tell of it, on the condition that the episode is still what it was
// judged from: when two replicas judge at the same time, one of them wins and the other one's messages do not exist.
package watch
