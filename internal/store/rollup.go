package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"maps"
	"slices"
	"strings"

	"shareai/internal/catalog"
	"shareai/internal/usage"
)

// The sums that are kept, by their places.
const (
	sumRequests = iota
	sumFailures
	sumCanceled
	sumFailedOver
	sumEstimated
	sumPromptTokens
	sumCachedTokens
	sumCompletionTokens
	sumReasoningTokens
	sumCost
	sumDuration
	sumFirstToken
	sumFirstTokens
	sumCacheWriteTokens
	sumCacheWrite1hTokens
	sumAudioInputTokens
	sumAudioOutputTokens
	sumCount
)

// sumColumns are the columns of sums in the order of their places.
var sumColumns = [sumCount]string{
	"requests", "failures", "canceled", "failed_over", "estimated", "prompt_tokens", "cached_tokens",
	"completion_tokens", "reasoning_tokens", "cost", "duration", "first_token", "first_tokens",
	"cache_write_tokens", "cache_write_1h_tokens", "audio_input_tokens", "audio_output_tokens",
}

const usageDaysTable = "usage_days"

// tallyColumns are the columns of usage_days and of a day's hours.
var tallyColumns = append([]string{"at", "series"}, sumColumns[:]...)

// sums are added up over records.
type sums [sumCount]int64

// maxSummand bounds what one record adds: a million dollars, or 35 years. Sums must not overflow because
// of one absurd record, since PostgreSQL would then refuse all that come after it.
const maxSummand = 1 << 50

func sumsOf(r *usage.Record) sums {
	left := r.Status == statusClientLeft
	s := sumsOfTokens(&r.Tokens, r.Cost)
	s[sumRequests], s[sumFailures], s[sumCanceled] = 1, one(r.Code != "" && !left), one(left)
	s[sumFailedOver], s[sumEstimated] = one(r.FailedOver()), one(r.Tokens.Estimated)
	s[sumDuration], s[sumFirstToken], s[sumFirstTokens] = bounded(r.Duration), bounded(r.FirstToken), one(r.FirstToken > 0)
	return s
}

// sumsOfTokens are the tokens and what they cost.
func sumsOfTokens(t *catalog.Tokens, cost int64) sums {
	return sums{
		sumPromptTokens: bounded(t.Prompt), sumCachedTokens: bounded(t.Cached), sumCacheWriteTokens: bounded(t.CacheWrite),
		sumCacheWrite1hTokens: bounded(t.CacheWrite1h), sumAudioInputTokens: bounded(t.AudioInput),
		sumCompletionTokens: bounded(t.Completion), sumReasoningTokens: bounded(t.Reasoning),
		sumAudioOutputTokens: bounded(t.AudioOutput), sumCost: bounded(cost),
	}
}

func bounded(n int64) int64 { return min(max(n, 0), maxSummand) }

func one(is bool) int64 {
	if is {
		return 1
	}
	return 0
}

func (s *sums) add(o *sums) {
	for i := range s {
		s[i] += o[i]
	}
}

// take takes as much of o out of s as there is, and returns it.
func (s *sums) take(o sums) sums {
	for i := range s {
		o[i] = min(o[i], s[i])
		s[i] -= o[i]
	}
	return o
}

// addSums is what an insert of a tally does where there is one: add to it.
func addSums(table string) string {
	sets := make([]string, sumCount)
	for i, column := range sumColumns {
		sets[i] = column + " = " + table + "." + column + " + excluded." + column
	}
	return "ON CONFLICT (at, series) DO UPDATE SET " + strings.Join(sets, ", ")
}

// series is everything that sums are kept apart by. It is a key of maps.
type series struct {
	organization, project, keyID, endpoint, route, model, provider, deployment, providerKey, drill string
	labels                                                                                         string // name NUL value NUL, by name
	status                                                                                         int64
}

func seriesOf(r *usage.Record) series {
	return series{
		organization: clean(r.Organization), project: clean(r.Project), keyID: clean(r.KeyID), endpoint: clean(string(r.Endpoint)),
		route: clean(r.Route), model: clean(r.Model), provider: clean(r.Provider), deployment: clean(r.Deployment),
		providerKey: clean(r.ProviderKey()), drill: clean(r.Drill), labels: joinLabels(r.Labels), status: int64(r.Status),
	}
}

func joinLabels(labels map[string]string) string {
	if len(labels) == 0 {
		return ""
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		b.WriteString(clean(name) + "\x00" + clean(labels[name]) + "\x00")
	}
	return b.String()
}

// columns are the texts of usage_series in their order.
func (s *series) columns() [10]string {
	return [...]string{
		s.organization, s.project, s.keyID, s.endpoint, s.route, s.model, s.provider, s.deployment, s.providerKey, s.drill,
	}
}

// id is the same for the same series on every replica. Of a million series two share an id with a
// probability of one in ten million.
func (s *series) id() int64 {
	text := binary.AppendVarint(make([]byte, 0, 256), s.status)
	for _, column := range s.columns() {
		text = append(append(text, column...), 0)
	}
	sum := sha256.Sum256(append(text, s.labels...))
	return int64(binary.BigEndian.Uint64(sum[:8]) >> 1) // the shift makes room for the sign
}

// tally is the sums of a series in one hour or day.
type tally struct {
	at, series int64
	sums       sums
}

func (t *tally) values(into []any) []any {
	into = append(into, t.at, t.series)
	for _, sum := range t.sums {
		into = append(into, sum)
	}
	return into
}

// tallies adds records up by series and hour.
type tallies struct {
	known  map[series]int64 // ids of series that are stored; only read
	series map[series]int64 // of these records
	hours  map[[2]int64]*tally
	times  times
}

// add adds a record. What attempts cost that failed is added where they failed: at their deployments, without a request.
// All of it together is what the record has, whatever its attempts say.
func (t *tallies) add(r *usage.Record) {
	answered, rest, hour := seriesOf(r), sumsOf(r), hourOf(r.Start)
	for i := range r.Attempts {
		a := &r.Attempts[i]
		if a.Cost == 0 && a.Tokens == (catalog.Tokens{}) {
			continue
		}
		failed := answered
		failed.provider, failed.deployment, failed.providerKey = clean(a.Provider), clean(a.Deployment), clean(a.ProviderKey)
		if failed == answered {
			continue
		}
		if there := rest.take(sumsOfTokens(&a.Tokens, a.Cost)); there != (sums{}) {
			t.addTo(failed, hour, there)
		}
	}
	t.times.of(timesPlace{hour, t.addTo(answered, hour, rest)}).add(r)
}

// addTo adds to a series and returns its id.
func (t *tallies) addTo(s series, hour int64, summand sums) (id int64) {
	id, seen := t.series[s]
	if !seen {
		if id, seen = t.known[s]; !seen {
			id = s.id()
		}
		t.series[s] = id
	}
	at := [2]int64{hour, id}
	if t.hours[at] == nil {
		t.hours[at] = &tally{at: at[0], series: id}
	}
	t.hours[at].sums.add(&summand)
	return id
}

// byHour returns the tallies of the hours, and byDay those of their one day. Both are sorted: replicas
// that lock rows in one order do not lock each other out.
func (t *tallies) byHour() []*tally { return slices.SortedFunc(maps.Values(t.hours), (*tally).compare) }

func (t *tallies) byDay(of day) []*tally {
	days := make(map[int64]*tally, len(t.series))
	for _, hour := range t.hours {
		if days[hour.series] == nil {
			days[hour.series] = &tally{at: int64(of), series: hour.series}
		}
		days[hour.series].sums.add(&hour.sums)
	}
	return slices.SortedFunc(maps.Values(days), (*tally).compare)
}

func (t *tally) compare(o *tally) int {
	return cmp.Or(cmp.Compare(t.at, o.at), cmp.Compare(t.series, o.series))
}

// maxKnownSeries bounds the memory of what is stored.
const maxKnownSeries = 10_000

// rollUp adds records, which are new, to the sums, in their transaction: the sums agree with the records
// at any time. The returned function notes, after the commit, which series are stored.
func (s *Store) rollUp(ctx context.Context, tx *sql.Tx, p *partition, records []*usage.Record) (committed func(), err error) {
	t := tallies{known: s.series, series: map[series]int64{}, hours: map[[2]int64]*tally{}, times: times{}}
	for _, r := range records {
		t.add(r)
	}
	if err := s.insertSeries(ctx, tx, t.series); err != nil {
		return nil, err
	}
	for _, of := range []struct {
		into    *bulkInsert
		tallies []*tally
	}{{p.hours, t.byHour()}, {s.usageDays, t.byDay(p.day)}} {
		_, err := of.into.run(ctx, tx, len(of.tallies), func(values []any, i int) []any { return of.tallies[i].values(values) })
		if err != nil {
			return nil, err
		}
	}
	if err := s.addTimes(ctx, tx, p, t.times); err != nil {
		return nil, err
	}
	return func() {
		if len(s.series)+len(t.series) > maxKnownSeries {
			clear(s.series)
		}
		maps.Copy(s.series, t.series)
	}, nil
}

// insertSeries stores the series that are not known to be stored.
func (s *Store) insertSeries(ctx context.Context, tx *sql.Tx, all map[series]int64) error {
	fresh := make([]series, 0, len(all))
	for of := range all {
		if _, known := s.series[of]; !known {
			fresh = append(fresh, of)
		}
	}
	slices.SortFunc(fresh, func(a, b series) int { return cmp.Compare(all[a], all[b]) })
	for i := range fresh {
		if err := insertOneSeries(ctx, tx, all[fresh[i]], &fresh[i]); err != nil {
			return err
		}
	}
	return nil
}

func insertOneSeries(ctx context.Context, tx *sql.Tx, id int64, s *series) error {
	values := []any{id, s.status}
	for _, column := range s.columns() {
		values = append(values, column)
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO usage_series (id, status, organization, project, key_id, endpoint, route, model,
		provider, deployment, provider_key, drill) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (id) DO NOTHING`, values...)
	if err != nil {
		return err
	}
	for rest := s.labels; rest != ""; {
		var name, value string
		name, rest, _ = strings.Cut(rest, "\x00")
		value, rest, _ = strings.Cut(rest, "\x00")
		if _, err := tx.ExecContext(ctx, `INSERT INTO usage_series_labels (series, name, value) VALUES ($1, $2, $3)
			ON CONFLICT (series, name) DO NOTHING`, id, name, value); err != nil {
			return err
		}
	}
	return nil
}
