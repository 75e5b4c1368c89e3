package failover

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"shareai/test/faultwall"
)

// BenchmarkFailover measures what a failover adds: each round asks once for a model whose only deployment is
// well, once for one whose first deployment refuses connections, and once for one whose first deployment answers
// 503 at once; the median and the 99th percentile of each are reported, and what the failovers add.
//
//	go test ./test/failover -run '^$' -bench Failover -benchtime 1x
//
// The circuit of a deployment opens after five failures, and then nothing fails any more: so there are many
// deployments, and each fails four times.
func BenchmarkFailover(b *testing.B) {
	const models, uses, warmup = 400, 4, 100
	dead, busy, well := wall(b), wall(b), wall(b)
	busy.Fail(faultwall.Named("status-503"))
	var text strings.Builder
	for i := range models {
		for kind, first := range map[string]string{"dead": "{provider: dead, model: up%d}, ", "busy": "{provider: busy, model: up%d}, "} {
			fmt.Fprintf(&text, "  - {name: %s%d, deployments: [%s{provider: well, model: up}]}\n", kind, i, fmt.Sprintf(first, i))
		}
	}
	text.WriteString("  - {name: well, deployments: [{provider: well, model: up}]}\n")
	g := start(b, "providers:\n"+provider("dead", dead)+provider("busy", busy)+provider("well", well)+"models:\n"+text.String())
	dead.Kill()
	ask := func(model string, n int) time.Duration {
		body := strings.Replace(question(n, ""), `"m"`, fmt.Sprintf("%q", model), 1)
		begin := time.Now()
		if got := g.ask(b.Context(), chatPath, body); got.status != 200 {
			b.Fatalf("%s: status %d, %s", model, got.status, got.body)
		}
		return time.Since(begin)
	}
	for n := range warmup {
		ask("well", n)
	}
	took := map[string][]time.Duration{}
	for n := range models * uses {
		for _, kind := range []string{"well", "dead", "busy"} {
			model := kind
			if kind != "well" {
				model = fmt.Sprintf("%s%d", kind, n%models)
			}
			took[kind] = append(took[kind], ask(model, n))
		}
	}
	if calls := busy.Calls(); calls != models*uses {
		b.Fatalf("%d of %d calls reached the deployment that fails", calls, models*uses)
	}
	b.ReportMetric(0, "ns/op") // of a whole series, which says nothing
	for _, kind := range []string{"well", "dead", "busy"} {
		p50, p99 := percentile(took[kind], 50), percentile(took[kind], 99)
		b.ReportMetric(micro(p50), kind+"-p50-µs")
		b.ReportMetric(micro(p99), kind+"-p99-µs")
		if kind != "well" {
			b.ReportMetric(micro(p50-percentile(took["well"], 50)), kind+"-adds-p50-µs")
			b.ReportMetric(micro(p99-percentile(took["well"], 99)), kind+"-adds-p99-µs")
		}
	}
}

func micro(d time.Duration) float64 { return float64(d.Microseconds()) }

func percentile(list []time.Duration, p int) time.Duration {
	sorted := slices.SortedFunc(slices.Values(list), cmp.Compare)
	return sorted[len(sorted)*p/100]
}
