// Package notify sends the messages of alerts: signed JSON to webhooks, what Slack understands to chats, and e-mail by
// SMTP.
//
// Messages wait in an outbox, which the database keeps. Every replica looks for those that are due (Courier) and claims
// one before it sends it, so that one replica sends each. A message that can not be delivered is tried again, later each
// time, for a day. A process that dies while it sends leaves the message to the next one: a receiver may get a message
// twice, under the same id, and never not at all.
//
// Where receivers are, users say: connections are made under the guard of package egress, and redirections are not
// followed.
package notify
