package openai

// Edit is one change to a top-level member of a request. The zero value changes nothing.
type Edit struct {
	verb    verb
	name    string
	newName string
	value   []byte
}

type verb uint8

const (
	nothing verb = iota
	set
	remove
	rename
)

// Set replaces the value of a member, or appends the member to the object. value is raw JSON, not
// empty.
func Set(name string, value []byte) Edit { return Edit{verb: set, name: name, value: value} }

// SetString is Set with a string that is not quoted yet.
func SetString(name, value string) Edit {
	return Set(name, AppendString(make([]byte, 0, len(value)+2), value))
}

// Remove takes a member away; an absent one is nothing to do.
func Remove(name string) Edit { return Edit{verb: remove, name: name} }

// Rename gives a member another key and keeps the bytes of its value. A member that had the new
// name is removed. An absent one is nothing to do.
func Rename(name, newName string) Edit { return Edit{verb: rename, name: name, newName: newName} }

// change is what edits make of one member.
type change struct {
	// member is the position in the object's list; positions from its length on are new members.
	member int
	gone   bool
	// renamed says that name is the new key; always so for a new member.
	renamed bool
	name    string
	// value is the new value; nil keeps the old one.
	value []byte
}

// draft is an object under edit: only the members that change are in it.
type draft struct {
	*object
	changes []change
	// total is the number of old and new members, gone ones included.
	total int
}

// edit applies the edits in order.
func (o *object) edit(edits []Edit) Body {
	var room [8]change
	d := draft{object: o, changes: room[:0], total: len(o.members)}
	for _, e := range edits {
		switch e.verb {
		case set:
			d.set(e.name, e.value)
		case remove:
			d.remove(e.name)
		case rename:
			d.rename(e.name, e.newName)
		case nothing:
		}
	}
	return d.body()
}

func (d *draft) set(name string, value []byte) {
	if i := d.lookUp(name); i >= 0 {
		d.change(i).value = value
		return
	}
	d.changes = append(d.changes, change{member: d.total, renamed: true, name: name, value: value})
	d.total++
}

func (d *draft) remove(name string) {
	if i := d.lookUp(name); i >= 0 {
		d.change(i).gone = true
	}
}

func (d *draft) rename(name, newName string) {
	i := d.lookUp(name)
	if i < 0 || name == newName {
		return
	}
	d.remove(newName)
	c := d.change(i)
	c.renamed, c.name = true, newName
}

// lookUp returns the position of the member that has this name now, -1 when there is none.
func (d *draft) lookUp(name string) int {
	for _, c := range d.changes {
		if c.renamed && !c.gone && c.name == name {
			return c.member
		}
	}
	i := d.find(name)
	if i >= 0 {
		if c := d.changed(i); c != nil && (c.gone || c.renamed) {
			return -1
		}
	}
	return i
}

// changed returns the change to a member, nil when it has none.
func (d *draft) changed(member int) *change {
	for i := range d.changes {
		if d.changes[i].member == member {
			return &d.changes[i]
		}
	}
	return nil
}

// change returns the change to a member, a new one when it has none.
func (d *draft) change(member int) *change {
	if c := d.changed(member); c != nil {
		return c
	}
	d.changes = append(d.changes, change{member: member})
	return &d.changes[len(d.changes)-1]
}

// body cuts the text around what has changed. A kept member takes the comma before it along; when
// all members before it are gone, it does without.
func (d *draft) body() Body {
	p := pieces{src: d.src, parts: make([][]byte, 0, 2*len(d.changes)+1)}
	kept := 0
	for i, m := range d.members {
		c := d.changed(i)
		if c != nil && c.gone {
			if kept > 0 || i == 0 {
				p.keep(d.regionStart(i, kept > 0))
			}
			p.from = d.regionEnd(i)
			continue
		}
		if kept == 0 && i > 0 {
			p.from = d.regionStart(i, false)
		}
		kept++
		if c != nil && c.renamed {
			p.replace(m.key, m.keyEnd, AppendString(nil, c.name))
		}
		if c != nil && c.value != nil {
			p.replace(m.value, m.end, c.value)
		}
	}
	d.appendNew(&p, kept)
	p.keep(len(d.src))
	return Body{parts: p.parts, size: p.size}
}

// appendNew puts new members right behind the last kept one, before the space that follows it.
func (d *draft) appendNew(p *pieces, kept int) {
	if kept > 0 {
		p.keep(d.members[len(d.members)-1].end)
	}
	for _, c := range d.changes {
		if c.member < len(d.members) || c.gone {
			continue
		}
		text := make([]byte, 0, len(`,"":`)+len(c.name)+len(c.value))
		if kept > 0 {
			text = append(text, ',')
		} else {
			p.keep(max(p.from, d.open+1))
		}
		kept++
		text = append(AppendString(text, c.name), ':')
		p.put(append(text, c.value...))
	}
}

// regionStart is where the text of member i begins: with the comma before it, or behind it.
func (d *draft) regionStart(i int, withComma bool) int {
	at := d.members[i].key
	for at > d.open+1 && d.src[at-1] <= ' ' {
		at--
	}
	if i > 0 && withComma {
		at--
	}
	return at
}

// regionEnd is where the text of member i ends: at the comma or brace behind it.
func (d *draft) regionEnd(i int) int { return skipSpace(d.src, d.members[i].end) }
