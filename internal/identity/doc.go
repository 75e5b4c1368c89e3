// Package identity holds the use cases of people: becoming a user, signing in and out, second factors, single
// sign-on, invitations, and who is what in an organization. Rows live in store, the rules of what a role may are in
// package account. Errors are *fault.Error.
//
// # Secrets
//
// Nothing that lets somebody in is stored as it is. Passwords are hashed with argon2id (password.go); tokens of
// sessions and of links, and recovery codes, have at least 100 random bits and are kept as SHA-256; the secret of an
// authenticator, which is needed to check codes, is sealed by the store. The audit log has none of them: an act names
// a user by his id, and what somebody types where an address belongs is not repeated.
//
// # Sessions
//
// A session begins with a new token, whatever the browser sent before, whose session ends: nobody can lay one
// under. It ends when nobody used it for Options.Idle, in any case after Options.Absolute, and at once when it is
// ended here or its user is disabled. A new password ends all others.
//
// # Guessing
//
// Failed attempts are counted for the client's address and for the account (pace.go), on all replicas together where
// Redis is set. An address that nobody has costs the same work as a wrong password and gives the same answer; a
// forgotten password is dealt with after the answer is out. Sign-up tells that an address is taken only where no
// e-mail can be sent.
//
// # Links
//
// Set-up, invitation, confirmation of an address and password reset are tickets: the link has a random token, the
// store has its hash and gives it out once. The token stands behind # in the link, which browsers send to nobody.
package identity
