package audit

import "fmt"

// Broken is the first place at which the log is not what was written.
type Broken struct {
	Sequence int64 // of the entry
	Reason   string
}

func (b *Broken) Error() string {
	return fmt.Sprintf("the audit log is broken at entry %d: %s", b.Sequence, b.Reason)
}

// Chain walks along the rows of a log, in the order of their sequence.
type Chain struct {
	// Expected is an entry that was noted earlier; zero: none.
	Expected Head
	head     Head
}

// Head is the end of what was walked.
func (c *Chain) Head() Head { return c.head }

// Add checks the next row. The error is a *Broken, after which the walk is over.
func (c *Chain) Add(r Row) error {
	next := c.head.Entries + 1
	switch {
	case r.Sequence > next:
		return &Broken{next, "it is missing"}
	case r.Sequence < next:
		return &Broken{r.Sequence, "it was inserted before the first one"}
	case hashOf(r.Body) != r.Hash:
		return &Broken{next, "its content is not what was hashed"}
	}
	e, err := r.Entry()
	switch {
	case err != nil:
		return &Broken{next, "it can not be read"}
	case e.Sequence != r.Sequence:
		return &Broken{next, fmt.Sprintf("what stands there was written as entry %d", e.Sequence)}
	case e.At.UnixMicro() != r.At:
		return &Broken{next, "its time was changed"}
	case e.Previous != c.head.Hash:
		return &Broken{next, "it does not follow the entry before it"}
	}
	if next == c.Expected.Entries && r.Hash != c.Expected.Hash {
		return &Broken{next, "it is not the entry that was noted: it, or one before it, was written anew"}
	}
	c.head = Head{Entries: next, Hash: r.Hash}
	return nil
}

// End checks that the walk ended where the log says that it ends. The error is a *Broken.
func (c *Chain) End(stored Head) error {
	switch {
	case c.head.Entries < max(stored.Entries, c.Expected.Entries):
		return &Broken{c.head.Entries + 1, fmt.Sprintf("it is missing, and so is all that follows, up to entry %d", max(stored.Entries, c.Expected.Entries))}
	case c.head.Entries > stored.Entries:
		return &Broken{stored.Entries + 1, fmt.Sprintf("it was added past the log, which has %d entries", stored.Entries)}
	case c.head.Hash != stored.Hash:
		return &Broken{max(c.head.Entries, 1), "it is not the last entry that was written"}
	}
	return nil
}
