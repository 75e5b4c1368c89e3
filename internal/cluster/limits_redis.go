package cluster

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisMeters are meters that many replicas share. Every call is one script, so that nobody comes between looking
// and taking, and the clock is Redis' own. All keys have one tag: a request takes from meters of
// several owners at once, and a script's keys must live together.
//
// A Rate is a hash of steps, with their sum and the oldest and newest of them. Places are a sorted set of holders by
// expiry. Money is a hash of spent, held, and one field for each hold, beside such a set.
type RedisMeters struct {
	redis *Redis

	mu   sync.Mutex
	late []settlement // that could not be told, oldest first
}

// settlement is a Settle that waits for Redis.
type settlement struct {
	holder Holder
	dues   []Due
}

// maxLate bounds how many settlements wait for Redis.
const maxLate = 100_000

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
  if field(key, 'high') < oldest then redis.call('DEL', key) return 0 end
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
`

// takeScript takes from all meters or from none. KEYS are two for each meter; ARGV the holder, its lease (µs), and for
// each meter its kind, limit, amount, period (µs), end (ms since the epoch) and whether it admits when full. It
// returns whether it admitted, and five numbers for each meter: full, remaining, wait (µs), reset (µs), step; full
// is 2 for a budget that was not seeded.
var takeScript = redis.NewScript(countingLua + `
local id, lease = ARGV[1], tonumber(ARGV[2])
local out, admitted = {1}, true
local rates = {}
for i = 1, #KEYS / 2 do
  local key, set, a = KEYS[2 * i - 1], KEYS[2 * i], 3 + (i - 1) * 6
  local kind, limit, amount, period, over = ARGV[a], tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3]), ARGV[a + 5]
  local full, remaining, wait, reset, at = 0, 0, 0, 0, 0
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
    for _, dead in ipairs(redis.call('ZRANGEBYSCORE', set, '-inf', text(now))) do release(key, set, dead) end
    remaining = limit - field(key, 'spent') - field(key, 'held')
    if remaining <= 0 then full = 1 end
    if redis.call('HEXISTS', key, 'spent') == 0 then full = 2 end
  end
  if full == 2 or full == 1 and over ~= '1' then admitted = false end
  local o = 2 + (i - 1) * 5
  out[o], out[o + 1], out[o + 2], out[o + 3], out[o + 4] = full, remaining, wait, reset, at
end
if not admitted then out[1] = 0 return out end
for i = 1, #KEYS / 2 do
  local key, set, a = KEYS[2 * i - 1], KEYS[2 * i], 3 + (i - 1) * 6
  local kind, amount, period, finish = ARGV[a], tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3]), ARGV[a + 4]
  local o = 2 + (i - 1) * 5
  out[o + 1] = out[o + 1] - amount
  if kind == 'r' then
    add(key, rates[i], rates[i], amount, period)
    out[o + 3] = (field(key, 'high') + STEPS + 1) * (period / STEPS) - now
  elseif kind == 'p' then
    redis.call('ZADD', key, text(now + lease), id)
    redis.call('PEXPIRE', key, text(lease / 1000 + 1000))
  else
    release(key, set, id)
    redis.call('ZADD', set, text(now + lease), id)
    redis.call('HSET', key, 'h:' .. id, text(amount))
    redis.call('HINCRBY', key, 'held', text(amount))
    redis.call('PEXPIREAT', key, finish)
    redis.call('PEXPIREAT', set, finish)
  end
end
return out`)

// seedScript says how much is spent of a budget, unless somebody has said it.
var seedScript = redis.NewScript(`
if redis.call('HSETNX', KEYS[1], 'spent', ARGV[1]) == 1 then redis.call('PEXPIREAT', KEYS[1], ARGV[2]) end
return 1`)

// settleScript ends what was taken. ARGV are the holder, and for each meter its kind, the step, what was taken, what it
// has come to, and its period (µs). Money of which nobody knows what was spent is in the ledger already.
var settleScript = redis.NewScript(countingLua + `
local id = ARGV[1]
for i = 1, #KEYS / 2 do
  local key, set, a = KEYS[2 * i - 1], KEYS[2 * i], 2 + (i - 1) * 5
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
    if redis.call('HEXISTS', key, 'spent') == 1 then redis.call('HINCRBY', key, 'spent', amount) end
  end
end
return 1`)

// Take implements Meters.
func (r *RedisMeters) Take(ctx context.Context, holder Holder, meters []Meter) (Taken, error) {
	args := make([]any, 0, 2+6*len(meters))
	args = append(args, holder.ID, holder.Lease.Microseconds())
	for i := range meters {
		m := &meters[i]
		args = append(args, string(m.Kind), m.Limit, m.Amount, m.Period.Microseconds(), expiry(m), strconv.Itoa(flag(m.Over)))
	}
	reply, err := r.run(ctx, takeScript, keysOf(len(meters), func(i int) *Meter { return &meters[i] }), args)
	if err != nil {
		return Taken{}, err
	}
	numbers, err := wholes(reply, 1+5*len(meters))
	if err != nil {
		return Taken{}, err
	}
	taken := Taken{Admitted: numbers[0] == 1, Readings: make([]Reading, len(meters))}
	for i := range meters {
		n := numbers[1+5*i:]
		taken.Readings[i] = Reading{
			Full: n[0] == 1, Unseeded: n[0] == 2, Remaining: n[1],
			Wait: time.Duration(n[2]) * time.Microsecond, Reset: time.Duration(n[3]) * time.Microsecond, Step: n[4],
		}
	}
	r.catchUp(ctx)
	return taken, nil
}

func flag(set bool) int {
	if set {
		return 1
	}
	return 0
}

// afterEnd is how long a budget is remembered after its end, for what began before.
const afterEnd = 24 * time.Hour

func expiry(m *Meter) int64 {
	if m.Kind != Money {
		return 0
	}
	return m.End.Add(afterEnd).UnixMilli()
}

func keysOf(n int, meter func(int) *Meter) []string {
	keys := make([]string, 0, 2*n)
	for i := range n {
		key := metersTag + meter(i).Key
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

// Seed implements Meters.
func (r *RedisMeters) Seed(ctx context.Context, meter Meter, spent int64) error {
	_, err := r.run(ctx, seedScript, []string{metersTag + meter.Key}, []any{spent, expiry(&meter)})
	return err
}

// Settle implements Meters. The end of ctx does not stop it.
func (r *RedisMeters) Settle(ctx context.Context, holder Holder, dues []Due) {
	ctx = context.WithoutCancel(ctx)
	if err := r.settle(ctx, holder, dues); err != nil {
		r.keep(holder, dues)
		return
	}
	r.catchUp(ctx)
}

func (r *RedisMeters) settle(ctx context.Context, holder Holder, dues []Due) error {
	args := make([]any, 0, 1+5*len(dues))
	args = append(args, holder.ID)
	for i := range dues {
		d := &dues[i]
		args = append(args, string(d.Meter.Kind), d.Step, d.Meter.Amount, d.Amount, d.Meter.Period.Microseconds())
	}
	_, err := r.run(ctx, settleScript, keysOf(len(dues), func(i int) *Meter { return &dues[i].Meter }), args)
	return err
}

// keep remembers what Redis has to be told.
func (r *RedisMeters) keep(holder Holder, dues []Due) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.late) < maxLate {
		r.late = append(r.late, settlement{holder, dues})
	}
}

// catchUp tells Redis what could not be told before.
func (r *RedisMeters) catchUp(ctx context.Context) {
	r.mu.Lock()
	late := r.late
	r.late = nil
	r.mu.Unlock()
	for i, s := range late {
		if err := r.settle(context.WithoutCancel(ctx), s.holder, s.dues); err != nil {
			r.mu.Lock()
			r.late = append(late[i:], r.late...)
			r.mu.Unlock()
			return
		}
	}
}
