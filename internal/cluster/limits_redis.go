package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisMeters are meters that many replicas share. Every call is one script, so that nobody comes between looking
// and taking, and the clock is Redis' own. All keys have one tag: a request takes from meters of
// several owners at once, and a script's keys must live together.
//
// A Rate is a hash of steps, with their sum and the oldest and newest of them. Places are a sorted set of holders by
// expiry. Money is a hash of spent, since when settlements count, how often it came into doubt, held, one field for each
// hold, and a ring of what was settled in each second, beside such a set.
type RedisMeters struct {
	redis *Redis

	mu       sync.Mutex
	doubtful map[string]Meter // budgets of which Redis was not told something
	telling  bool
}

// Meters returns the meters of this Redis.
func (r *Redis) Meters() *RedisMeters { return &RedisMeters{redis: r} }

// metersTag is what the key of every meter begins with.
const metersTag = prefix + "{meters}:"

// countingLua is what the scripts share: whole numbers as text (Lua writes large ones with an exponent), forgetting the
// steps of a Rate that are out of sight, and ending a hold.
const countingLua = `
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local STEPS = 60
local function text(n) return string.format('%.0f', n) end
local function field(key, name) return tonumber(redis.call('HGET', key, name) or '0') or 0 end
local function forget(key, at)
  local low = redis.call('HGET', key, 'low')
  if not low then return 0 end
  low = tonumber(low)
  local oldest, sum = at - STEPS, field(key, 'sum')
  local high = field(key, 'high')
  -- Beyond a period ahead: the clock was set back.
  if high < oldest or high > at + STEPS then redis.call('DEL', key) return 0 end
  if low < oldest then
    for s = low, oldest - 1 do
      local n = field(key, text(s))
      if n ~= 0 then sum = sum - n redis.call('HDEL', key, text(s)) end
    end
    redis.call('HSET', key, 'low', text(oldest), 'sum', text(sum))
  end
  return sum
end
local function add(key, at, step, amount, period)
  redis.call('HSETNX', key, 'low', text(at - STEPS))
  redis.call('HINCRBY', key, text(step), text(amount))
  redis.call('HINCRBY', key, 'sum', text(amount))
  if field(key, 'high') < step then redis.call('HSET', key, 'high', text(step)) end
  redis.call('PEXPIRE', key, text(2 * period / 1000))
end
local function release(key, set, id)
  redis.call('ZREM', set, id)
  local amount = redis.call('HGET', key, 'h:' .. id)
  if amount then
    if amount ~= '0' then redis.call('HINCRBY', key, 'held', '-' .. amount) end
    redis.call('HDEL', key, 'h:' .. id)
  end
end
local function hold(key, set, id, amount, till, finish)
  redis.call('ZADD', set, text(till), id)
  redis.call('HSET', key, 'h:' .. id, text(amount))
  redis.call('HINCRBY', key, 'held', text(amount))
  redis.call('PEXPIREAT', key, finish)
  redis.call('PEXPIREAT', set, finish)
end
local function seat(key, id, till, lease)
  redis.call('ZADD', key, text(till), id)
  redis.call('PEXPIRE', key, text(lease / 1000 + 1000))
end
local function doubt(key)
  if redis.call('HEXISTS', key, 'spent') == 1 then redis.call('HINCRBY', key, 'doubt', 1) end
end
`

// takeScript takes from all meters or from none. KEYS are two for each meter; ARGV the holder, its lease (µs), and for
// each meter its kind, limit, amount, period (µs), end (ms since the epoch) and flags: o admits when full, b believes
// what is in doubt. It returns whether it admitted, and six numbers for each meter: full, remaining, wait (µs), reset
// (µs), step, doubt; full is 2 for a budget that was not seeded.
var takeScript = redis.NewScript(countingLua + `
local id, lease = ARGV[1], tonumber(ARGV[2])
local out, admitted = {1}, true
local rates = {}
for i = 1, #KEYS / 2 do
  local key, set, a = KEYS[2 * i - 1], KEYS[2 * i], 3 + (i - 1) * 6
  local kind, limit, amount, period, flags = ARGV[a], tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3]), ARGV[a + 5]
  local full, remaining, wait, reset, at, doubts = 0, 0, 0, 0, 0, 0
  if kind == 'r' then
    local step = period / STEPS
    at = math.floor(now / step)
    local sum = forget(key, at)
    rates[i] = at
    remaining = math.max(limit - sum, 0)
    if sum > 0 then reset = (field(key, 'high') + STEPS + 1) * step - now end
    if sum + amount > limit then
      full, wait = 1, period
      local left = sum
      for s = field(key, 'low'), field(key, 'high') do
        left = left - field(key, text(s))
        if left + amount <= limit then wait = (s + STEPS + 1) * step - now break end
      end
    end
  elseif kind == 'p' then
    redis.call('ZREMRANGEBYSCORE', key, '-inf', text(now))
    remaining = limit - redis.call('ZCARD', key)
    if remaining <= 0 then full = 1 end
  else
    local dead = redis.call('ZRANGEBYSCORE', set, '-inf', text(now))
    for _, one in ipairs(dead) do release(key, set, one) end
    if #dead > 0 then doubt(key) end -- who dies may have spent something, and told the ledger only
    doubts = field(key, 'doubt')
    remaining = limit - field(key, 'spent') - field(key, 'held')
    if remaining <= 0 then full = 1 end
    if redis.call('HEXISTS', key, 'spent') == 0 then full = 2 end
  end
  if full == 2 or full == 1 and not flags:find('o') or doubts > 0 and not flags:find('b') then admitted = false end
  local o = 2 + (i - 1) * 6
  out[o], out[o + 1], out[o + 2], out[o + 3], out[o + 4], out[o + 5] = full, remaining, wait, reset, at, doubts
end
if not admitted then out[1] = 0 return out end
for i = 1, #KEYS / 2 do
  local key, set, a = KEYS[2 * i - 1], KEYS[2 * i], 3 + (i - 1) * 6
  local kind, amount, period, finish = ARGV[a], tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3]), ARGV[a + 4]
  local o = 2 + (i - 1) * 6
  out[o + 1] = out[o + 1] - amount
  if kind == 'r' then
    add(key, rates[i], rates[i], amount, period)
    out[o + 3] = (field(key, 'high') + STEPS + 1) * (period / STEPS) - now
  elseif kind == 'p' then
    seat(key, id, now + lease, lease)
  else
    release(key, set, id)
    hold(key, set, id, amount, now + lease, finish)
  end
end
return out`)

// renewScript leases what is held anew. ARGV are the holder, its lease (µs), and for each meter its kind, what was
// taken, and its end (ms since the epoch).
var renewScript = redis.NewScript(countingLua + `
local id, lease = ARGV[1], tonumber(ARGV[2])
for i = 1, #KEYS / 2 do
  local key, set, a = KEYS[2 * i - 1], KEYS[2 * i], 3 + (i - 1) * 3
  if ARGV[a] == 'p' then
    seat(key, id, now + lease, lease)
  elseif ARGV[a] == 'm' then
    release(key, set, id)
    hold(key, set, id, tonumber(ARGV[a + 1]), now + lease, ARGV[a + 2])
  end
end
return 1`)

// seedScript says how much is spent of a budget. ARGV are that, when the requests had ended that it counts (µs since the
// epoch), the doubt that it ends, and the budget's end (ms since the epoch).
var seedScript = redis.NewScript(`
local key, since = KEYS[1], tonumber(ARGV[2])
local doubt = redis.call('HGET', key, 'doubt')
if redis.call('HEXISTS', key, 'spent') == 1 and doubt ~= ARGV[3] then return 0 end
redis.call('HSET', key, 'spent', ARGV[1], 'since', ARGV[2])
redis.call('HDEL', key, 'doubt')
for slot = 0, 63 do
  local second = redis.call('HGET', key, 'at' .. slot)
  if second and tonumber(second) * 1000000 >= since then redis.call('HINCRBY', key, 'spent', redis.call('HGET', key, 'in' .. slot)) end
end
redis.call('PEXPIREAT', key, ARGV[4])
return 1`)

// doubtScript says that what is counted of budgets may not be what was spent.
var doubtScript = redis.NewScript(countingLua + `
for i = 1, #KEYS / 2 do doubt(KEYS[2 * i - 1]) end
return 1`)

// settleScript ends what was taken. ARGV are the holder, and for each meter its kind, the step, what was taken, what it
// has come to, its period (µs), when the request ended (µs since the epoch), and the meter's end (ms since the epoch).
var settleScript = redis.NewScript(countingLua + `
local id = ARGV[1]
for i = 1, #KEYS / 2 do
  local key, set, a = KEYS[2 * i - 1], KEYS[2 * i], 2 + (i - 1) * 7
  local kind, step, taken, amount, period = ARGV[a], tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), ARGV[a + 3], tonumber(ARGV[a + 4])
  if kind == 'r' then
    local at = math.floor(now / (period / STEPS))
    forget(key, at)
    local more = tonumber(amount) - taken
    if step >= at - STEPS then
      more = math.max(more, -field(key, text(step)))
      if more ~= 0 then add(key, at, step, more, period) end
    elseif more > 0 then
      add(key, at, at, more, period)
    end
  elseif kind == 'p' then
    redis.call('ZREM', key, id)
  else
    release(key, set, id)
    local ended = tonumber(ARGV[a + 5])
    local second = math.floor(ended / 1000000)
    local slot = text(second % 64)
    local at = field(key, 'at' .. slot)
    if at < second then
      redis.call('HSET', key, 'at' .. slot, text(second), 'in' .. slot, amount)
    elseif at == second then
      redis.call('HINCRBY', key, 'in' .. slot, amount)
    end
    if redis.call('HEXISTS', key, 'spent') == 1 and ended >= field(key, 'since') then redis.call('HINCRBY', key, 'spent', amount) end
    redis.call('PEXPIREAT', key, ARGV[a + 6])
  end
end
return 1`)

// Take implements Meters.
func (r *RedisMeters) Take(ctx context.Context, holder Holder, meters []Meter) (Taken, error) {
	args := make([]any, 0, 2+6*len(meters))
	args = append(args, holder.ID, holder.Lease.Microseconds())
	for i := range meters {
		m := &meters[i]
		args = append(args, string(m.Kind), m.Limit, m.Amount, m.Period.Microseconds(), expiry(m), flags(m))
	}
	reply, err := r.run(ctx, takeScript, keysOf(meters), args)
	if err != nil {
		return Taken{}, err
	}
	numbers, err := wholes(reply, 1+6*len(meters))
	if err != nil {
		return Taken{}, err
	}
	taken := Taken{Admitted: numbers[0] == 1, Readings: make([]Reading, len(meters))}
	for i := range meters {
		n := numbers[1+6*i:]
		taken.Readings[i] = Reading{
			Full: n[0] == 1, Unseeded: n[0] == 2, Remaining: n[1],
			Wait: time.Duration(n[2]) * time.Microsecond, Reset: time.Duration(n[3]) * time.Microsecond, Step: n[4], Doubt: n[5],
		}
	}
	r.tell()
	return taken, nil
}

func flags(m *Meter) (set string) {
	if m.Over {
		set += "o"
	}
	if m.Believe {
		set += "b"
	}
	return set
}

// afterEnd is how long a budget is remembered after its end, for what began before.
const afterEnd = 24 * time.Hour

func expiry(m *Meter) int64 {
	if m.Kind != Money {
		return 0
	}
	return m.End.Add(afterEnd).UnixMilli()
}

func keysOf(meters []Meter) []string {
	keys := make([]string, 0, 2*len(meters))
	for i := range meters {
		key := metersTag + meters[i].Key
		keys = append(keys, key, key+":holds")
	}
	return keys
}

func wholes(reply any, n int) ([]int64, error) {
	list, _ := reply.([]any)
	numbers := make([]int64, 0, n)
	for _, element := range list {
		if number, ok := element.(int64); ok {
			numbers = append(numbers, number)
		}
	}
	if len(numbers) != n {
		return nil, away("ask the limits of", fmt.Errorf("%d numbers instead of %d", len(numbers), n))
	}
	return numbers, nil
}

// run runs a script within redisTimeout.
func (r *RedisMeters) run(ctx context.Context, script *redis.Script, keys []string, args []any) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	reply, err := script.Run(ctx, r.redis.client, keys, args...).Result()
	return reply, away("ask the limits of", err)
}

// Renew implements Meters.
func (r *RedisMeters) Renew(ctx context.Context, holder Holder, meters []Meter) error {
	args := make([]any, 0, 2+3*len(meters))
	args = append(args, holder.ID, holder.Lease.Microseconds())
	for i := range meters {
		args = append(args, string(meters[i].Kind), meters[i].Amount, expiry(&meters[i]))
	}
	_, err := r.run(ctx, renewScript, keysOf(meters), args)
	return err
}

// Seed implements Meters.
func (r *RedisMeters) Seed(ctx context.Context, meter Meter, sum Sum) error {
	_, err := r.run(ctx, seedScript, []string{metersTag + meter.Key}, []any{sum.Spent, sum.Ended.UnixMicro(), sum.Doubt, expiry(&meter)})
	return err
}

// Doubt implements Meters.
func (r *RedisMeters) Doubt(ctx context.Context, meters []Meter) error {
	_, err := r.run(ctx, doubtScript, keysOf(meters), nil)
	return err
}

// Settle implements Meters. The end of ctx does not stop it.
func (r *RedisMeters) Settle(ctx context.Context, holder Holder, dues []Due) {
	args := make([]any, 0, 1+7*len(dues))
	args = append(args, holder.ID)
	meters := make([]Meter, len(dues))
	for i := range dues {
		d := &dues[i]
		meters[i] = d.Meter
		args = append(args, string(d.Meter.Kind), d.Step, d.Meter.Amount, d.Amount, d.Meter.Period.Microseconds(), d.Ended.UnixMicro(), expiry(&d.Meter))
	}
	if _, err := r.run(context.WithoutCancel(ctx), settleScript, keysOf(meters), args); err != nil {
		r.keep(meters)
	}
}

// keep remembers of which budgets Redis does not know everything. It may have been told and its answer lost: what was
// spent is not told again, but read from the ledger.
func (r *RedisMeters) keep(meters []Meter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.doubtful == nil {
		r.doubtful = map[string]Meter{}
	}
	for _, m := range meters {
		if m.Kind == Money {
			r.doubtful[m.Key] = m
		}
	}
}

// tell says of which budgets Redis does not know everything, in the background.
func (r *RedisMeters) tell() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.doubtful) == 0 || r.telling {
		return
	}
	meters := slices.Collect(maps.Values(r.doubtful))
	r.doubtful = nil
	r.telling = r.redis.begin(func(ctx context.Context) {
		err := r.Doubt(ctx, meters)
		if err != nil {
			r.keep(meters)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.telling = false
	})
}
