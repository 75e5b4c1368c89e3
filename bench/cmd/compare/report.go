//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// report is all that a comparison found.
type report struct {
	Machine machine
	Long    bool
	Results []result
	Targets []*contender
	Records *records // nil when ShareAI did not take part
	Bars    []verdict
}

// column is one column of a scenario's table.
type column struct {
	title string
	cell  func(r result, target string) string
}

var (
	requestRate = plain("requests/s", 0, sample.requestRate)
	chunkRate   = plain("chunks/s", 0, func(s sample) float64 { return float64(s.Chunks) / s.Wall })
	latency50   = plain("p50 ms", 2, func(s sample) float64 { return s.Latency50 })
	latency99   = plain("p99 ms", 2, func(s sample) float64 { return s.Latency99 })
	first50     = plain("first chunk p50 ms", 2, func(s sample) float64 { return s.First50 })
	first99     = plain("first chunk p99 ms", 2, func(s sample) float64 { return s.First99 })
	lag50       = plain("chunk lag p50 ms", 2, func(s sample) float64 { return s.Lag50 })
	lag99       = plain("chunk lag p99 ms", 2, func(s sample) float64 { return s.Lag99 })
	added50     = addition("added p50 ms", func(s sample) float64 { return s.Latency50 })
	added99     = addition("added p99 ms", func(s sample) float64 { return s.Latency99 })

	memoryPerStream = ofProcess("KiB per stream", 0, streamMemory)
	peakMemory      = ofProcess("peak MiB", 0, func(s sample) float64 { return mebibytes(s.RSSPeak) })
)

func plain(title string, decimals int, f figure) column {
	return column{title, func(r result, target string) string { return r.of(target, f).show(decimals) }}
}

// ofProcess is a figure that only a target with a process of its own has.
func ofProcess(title string, decimals int, f figure) column {
	return column{title, func(r result, target string) string {
		if target == "direct" {
			return spread{}.show(decimals)
		}
		return r.of(target, f).show(decimals)
	}}
}

func addition(title string, f figure) column {
	return column{title, func(r result, target string) string {
		if target == "direct" {
			return spread{}.show(2)
		}
		return r.added(target, f).show(2)
	}}
}

// table is the scenario as a Markdown section.
func (r result) table() string {
	columns := []column{
		{"target", func(_ result, target string) string { return target }},
		{"CPU µs per " + string(r.Unit), func(r result, target string) string {
			if target == "direct" {
				return spread{}.show(1)
			}
			return r.of(target, r.cost).showAll(1)
		}},
	}
	for _, base := range []string{"minimal", "nginx"} {
		if slices.Contains(r.targets(), base) {
			columns = append(columns, column{"× " + base, func(r result, target string) string { return r.ratio(target, base).show(2) }})
		}
	}
	columns = append(columns, r.Columns...)
	columns = append(columns, column{"failed", result.failures},
		plain("others' CPU %", 0, func(s sample) float64 { return 100 * s.Outside }))

	var b strings.Builder
	fmt.Fprintf(&b, "\n### %s: %s\n\n", r.Name, r.Title)
	writeRow(&b, columns, func(c column) string { return c.title })
	writeRow(&b, columns, func(column) string { return "---" })
	for _, target := range r.targets() {
		writeRow(&b, columns, func(c column) string { return c.cell(r, target) })
	}
	return b.String()
}

func writeRow(b *strings.Builder, columns []column, cell func(column) string) {
	for _, c := range columns {
		fmt.Fprintf(b, "| %s ", cell(c))
	}
	b.WriteString("|\n")
}

// failures are the requests of all rounds that failed, by kind.
func (r result) failures(target string) string {
	kinds := map[string]uint64{}
	for _, s := range r.samples {
		if s.Target == target {
			for kind, n := range s.Failed {
				kinds[kind] += n
			}
		}
	}
	var texts []string
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		texts = append(texts, fmt.Sprintf("%d %s", kinds[kind], kind))
	}
	if len(texts) == 0 {
		return "0"
	}
	return strings.Join(texts, ", ")
}

// closing is what is printed after the scenarios.
func (rep *report) closing() string {
	var b strings.Builder
	b.WriteString("\n### Start and idle\n\n| target | ready after ms | idle MiB |\n| --- | --- | --- |\n")
	for _, c := range rep.Targets {
		if c.starts > 0 {
			fmt.Fprintf(&b, "| %s | %d | %.0f |\n", c.Name, c.Startup.Milliseconds(), mebibytes(c.IdleBytes))
		}
	}
	if len(rep.Bars) == 0 {
		return b.String()
	}
	b.WriteString("\n### Bars\n\n")
	for _, v := range rep.Bars {
		fmt.Fprintf(&b, "- %s\n", v)
	}
	return b.String()
}

// save writes everything as JSON.
func (rep *report) save(file string) error {
	form := "short"
	if rep.Long {
		form = "long"
	}
	samples := []sample{}
	for _, r := range rep.Results {
		samples = append(samples, r.samples...)
	}
	text, err := json.MarshalIndent(map[string]any{
		"machine": rep.Machine,
		"form":    form,
		"targets": rep.Targets,
		"samples": samples,
		"records": rep.Records,
		"bars":    rep.Bars,
	}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

func mebibytes(n int64) float64 { return float64(n) / (1 << 20) }
