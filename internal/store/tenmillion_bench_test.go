package store_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"shareai/internal/store"
	"shareai/internal/store/storetest"
	"shareai/internal/usage"
)

// manyVariable, set to anything, runs BenchmarkTenMillionRecords. It needs 5 GB of disk and some minutes.
const manyVariable = "SHAREAI_BENCH_MANY"

// Ten million records: thirty days, of which each hour has a hundred of 500 series.
const (
	manyDays    = 30
	manySeries  = 500
	manyAnHour  = 100
	manyCopies  = 139
	manyRecords = manyDays * 24 * manyAnHour * manyCopies
)

// BenchmarkTenMillionRecords asks for reports over ten million records, and drops all but the last day. A
// report that takes a second or more fails.
func BenchmarkTenMillionRecords(b *testing.B) {
	if os.Getenv(manyVariable) == "" {
		b.Skip(manyVariable + " is not set")
	}
	b.Run("SQLite", func(b *testing.B) {
		dir := b.TempDir()
		benchmarkMany(b, store.Options{DataDir: dir}, "sqlite", "file:"+filepath.Join(dir, "shareai.db")+"?_pragma=busy_timeout(60000)",
			"SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")
	})
	b.Run("PostgreSQL", func(b *testing.B) {
		server := os.Getenv(storetest.PostgresVariable)
		if server == "" {
			b.Skip(storetest.PostgresVariable + " is not set")
		}
		benchmarkMany(b, store.Options{Database: server, DataDir: b.TempDir()}, "pgx", server, "SELECT pg_database_size(current_database())")
	})
}

func benchmarkMany(b *testing.B, o store.Options, driver, source, size string) {
	s, err := store.Open(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	raw, err := sql.Open(driver, source)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	begin := time.Now()
	fillMany(b, s, raw)
	total, err := s.Usage(b.Context(), store.UsageQuery{})
	if err != nil || total[0].Requests != manyRecords {
		b.Fatalf("%+v, %v", total, err)
	}
	b.Logf("%d records in %s, %d MB", manyRecords, time.Since(begin).Round(time.Second), megabytes(b, raw, size))
	lastHours := manyStart.Add(manyDays*24*time.Hour - 36*time.Hour - time.Minute)
	for name, q := range map[string]store.UsageQuery{
		"total":                          {},
		"by model and provider":          {By: []store.Dimension{store.ByModel, store.ByProvider}},
		"by model and deployment":        {By: []store.Dimension{store.ByModel, store.ByDeployment}},
		"by project and key and day":     {By: []store.Dimension{store.ByProject, store.ByKey, store.ByDay}},
		"by label and provider key":      {By: []store.Dimension{store.ByLabel("team"), store.ByProviderKey}},
		"by hour of thirty days":         {By: []store.Dimension{store.ByHour}},
		"by model and hour, thirty days": {By: []store.Dimension{store.ByModel, store.ByHour}},
		"by route, the last 36 hours":    {From: lastHours, By: []store.Dimension{store.ByRoute}},
		"one project by day":             {Organization: "acme", Project: "project-3", By: []store.Dimension{store.ByDay}},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if rows, err := s.Usage(b.Context(), q); err != nil || len(rows) == 0 {
					b.Fatal(err)
				}
			}
			if mean := b.Elapsed() / time.Duration(b.N); mean >= time.Second {
				b.Errorf("it takes %s", mean)
			}
		})
	}
	for name, q := range map[string]store.UsageQuery{
		"percentiles by model and deployment":        {By: []store.Dimension{store.ByModel, store.ByDeployment}},
		"percentiles by model and deployment by day": {By: []store.Dimension{store.ByModel, store.ByDeployment, store.ByDay}},
		"percentiles by model, the last 36 hours":    {From: lastHours, By: []store.Dimension{store.ByModel}},
		"percentiles by hour of a week":              {From: lastHours.Add(-6 * 24 * time.Hour), By: []store.Dimension{store.ByHour}},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if rows, err := s.Times(b.Context(), q); err != nil || len(rows) == 0 {
					b.Fatal(err)
				}
			}
			if mean := b.Elapsed() / time.Duration(b.N); mean >= time.Second {
				b.Errorf("it takes %s", mean)
			}
		})
	}
	begin = time.Now()
	if err := s.RankPrompts(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Logf("prompts of %d days ranked in %s", manyDays, time.Since(begin).Round(time.Millisecond))
	b.Run("prompts of thirty days", func(b *testing.B) {
		for b.Loop() {
			if rows, err := s.Prompts(b.Context(), store.PromptQuery{}); err != nil || len(rows) != 20 {
				b.Fatal(err)
			}
		}
		if mean := b.Elapsed() / time.Duration(b.N); mean >= time.Second {
			b.Errorf("it takes %s", mean)
		}
	})
	begin = time.Now()
	dropped, err := s.DropRecords(b.Context(), manyStart.Add((manyDays-1)*24*time.Hour))
	b.Logf("%d days dropped in %s, %d MB are left, %v", dropped, time.Since(begin).Round(time.Millisecond), megabytes(b, raw, size), err)
}

var manyStart = time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)

// fillMany stores some records as the gateway does, and then multiplies them and their sums.
func fillMany(b *testing.B, s *store.Store, raw *sql.DB) {
	b.Helper()
	exec := func(statement string, values ...any) {
		b.Helper()
		if _, err := raw.ExecContext(context.WithoutCancel(b.Context()), statement, values...); err != nil {
			b.Fatalf("%s: %v", statement, err)
		}
	}
	exec("CREATE TABLE copies (n BIGINT NOT NULL)")
	exec(fmt.Sprintf("INSERT INTO copies WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < %d) SELECT n FROM c", manyCopies-1))
	batch := make([]usage.Record, 24*manyAnHour)
	for d := range manyDays {
		day := manyStart.AddDate(0, 0, d)
		for i := range batch {
			batch[i] = manyRecord(day, i)
		}
		if err := s.InsertRecords(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
		suffix := day.Format("20060102")
		// Without the trace, which no report reads: it would be nine of ten bytes.
		exec("UPDATE usage_records_" + suffix + " SET detail = '{}'")
		exec(`INSERT INTO usage_records_` + suffix + ` SELECT id || '_' || n, start, duration, first_token, organization, project, key_id, endpoint, route,
			model, provider, deployment, status, code, prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens, estimated, cost, detail,
			failed_over, drill, prompt + n % 40 FROM usage_records_` + suffix + `, copies`)
		exec("UPDATE usage_hours_" + suffix + " SET " + multiplied())
		exec("UPDATE usage_times_"+suffix+" SET times = $1", twentyBuckets())
	}
	exec("UPDATE usage_days SET " + multiplied())
	exec("UPDATE usage_day_times SET times = $1", twentyBuckets())
	exec("DROP TABLE copies")
}

// twentyBuckets are times of 139 requests that lie apart by a factor of thirty.
func twentyBuckets() (text []byte) {
	for bucket := byte(70); bucket < 90; bucket++ {
		text = append(text, bucket, 7, 3)
	}
	return text
}

func multiplied() string {
	var sets []string
	for _, column := range store.SumColumns {
		sets = append(sets, fmt.Sprintf("%s = %s * %d", column, column, manyCopies))
	}
	return strings.Join(sets, ", ")
}

func manyRecord(day time.Time, i int) usage.Record {
	r := usualRecord()
	series := (i*7 + i/manyAnHour) % manySeries
	r.ID = fmt.Sprintf("req_%s_%08d", day.Format("0102"), i)
	r.Start = day.Add(time.Duration(i/manyAnHour) * time.Hour).UnixMicro()
	project := series % 20
	r.Project, r.KeyID, r.Route = fmt.Sprint("project-", project), fmt.Sprint("key-", series%50), fmt.Sprint("route-", series%5)
	r.Labels = map[string]string{"team": fmt.Sprint("team-", project%6), "environment": []string{"production", "staging"}[project%2]}
	r.Model, r.Provider = fmt.Sprint("model-", series/50), fmt.Sprint("provider-", series/125)
	r.Deployment = r.Provider + "/" + r.Model
	r.Attempts[0].Deployment = r.Deployment
	r.Prompt = uint64(i%300)*1000 + 1
	return r
}

func megabytes(b *testing.B, raw *sql.DB, query string) int64 {
	b.Helper()
	var bytes int64
	if err := raw.QueryRowContext(b.Context(), query).Scan(&bytes); err != nil {
		b.Fatal(err)
	}
	return bytes >> 20
}
