package cli

import (
	"strings"
	"unicode/utf8"
)

// align is the side on which a column's cells begin.
type align int

const (
	left align = iota
	right
)

// column is the head of a table's column.
type column struct {
	title string
	align align
}

// table is text in columns.
type table struct {
	columns []column
	rows    [][]string
	// foot is a last row that stands apart; nil: none.
	foot []string
}

func (tb *table) add(cells ...string) { tb.rows = append(tb.rows, cells) }

// print writes the table, each line behind an indent.
func (t *terminal) table(indent string, tb *table) {
	widths := make([]int, len(tb.columns))
	head := make([]string, len(tb.columns))
	for i, c := range tb.columns {
		head[i] = c.title
	}
	for _, row := range append([][]string{head, tb.foot}, tb.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	t.print("%s\n", t.styled(bold, indent+tb.line(head, widths)))
	for _, row := range tb.rows {
		t.print("%s%s\n", indent, tb.line(row, widths))
	}
	if tb.foot != nil {
		t.print("%s\n", t.styled(bold, indent+tb.line(tb.foot, widths)))
	}
}

// line is one row, padded; spaces at its end are left out.
func (tb *table) line(cells []string, widths []int) string {
	var b strings.Builder
	for i, cell := range cells {
		if i > 0 {
			b.WriteString("  ")
		}
		pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
		if tb.columns[i].align == right {
			b.WriteString(pad + cell)
		} else {
			b.WriteString(cell + pad)
		}
	}
	return strings.TrimRight(b.String(), " ")
}
