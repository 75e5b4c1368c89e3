// Package app puts the parts together: it is the one place that knows all of them. Everything else
// gets what it needs from its constructor.
//
// # Start and stop
//
// What is started later may use what was started earlier, so that stopping goes the other way:
//
//	start                                      stop
//	1 configuration, data directory            –
//	2 listeners: a taken port shows at once    –
//	3 store                                    8 close
//	4 snapshot                                 –
//	5 what replicas share                      7 close
//	6 journal and its shipper                  6 store what is left, within Settings.Flush; close
//	7 traces                                   5 export what is left, within exportTime
//	8 upstream client                          4 close idle connections
//	9 followers of rows and file               3 end
//	10 serve                                   1 readyz says 503, nothing more is accepted
//	                                           2 running requests end, within Settings.Grace
//
// Start and Stop return when all of it is done; Stop may be called any number of times. What can not
// be stored by step 6 waits in the journal for the next start.
package app
