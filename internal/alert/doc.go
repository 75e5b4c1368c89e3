// Package alert says when somebody has to be told something. It is pure: what was observed goes in, what became of
// the episode comes out. Rows live in store, observing in watch, sending in notify.
//
// An episode is one time that one thing (its subject) was not well:
//
//	            bad                  bad for Pace.After
//	(nothing) ───────▶ pending ──────────────────────────▶ open ◀─┐ worse than ever
//	                      │ well                            │ │    │ before: raised
//	                      ▼                                 │ └────┘
//	                  (nothing)                             │ well for Pace.Calm, or not watched any more
//	                                                        ▼
//	                                                      ended
//
// The edges opened, raised and ended are what people are told, each once. What is bad has a level: that of a budget
// is the threshold that was reached, everything else has only one. An observation may also say that nothing is known;
// then the episode stays what it is.
//
// What comes back within Memory of its end is flapping: each time its next episode needs twice as long a calm to end, so
// that a signal that comes and goes becomes one long episode and not a hundred messages.
package alert
