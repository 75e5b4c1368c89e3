package cluster

import (
	"context"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisSeats are seats that many replicas share. Every call is one script, by Redis' own clock. Of each deployment
// there are a sorted set of seats and one of claims, both by expiry, and a hash that counts them by group.
type RedisSeats struct {
	redis *Redis

	mu   sync.Mutex
	late []risen // that could not be told, oldest first
}

// risen is a Rise that waits for Redis.
type risen struct {
	holder Holder
	ask    Seat
}

// Seats returns the seats of this Redis.
func (r *Redis) Seats() *RedisSeats { return &RedisSeats{redis: r} }

// maxLateSeats bounds how many seats wait for Redis to be given back.
const maxLateSeats = 10_000

// seatsIdle is how long a deployment is remembered that nobody asks for.
const seatsIdle = 7 * 24 * time.Hour

// seatsLua is what the scripts share. A member of a set is its group, a space, and the holder.
const seatsLua = `
local counts, seats, claims = KEYS[1], KEYS[2], KEYS[3]
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local function text(n) return string.format('%.0f', n) end
local function drop(set, kind, member)
  if redis.call('ZREM', set, member) == 0 then return end
  local field = kind .. string.match(member, '^(%S+) ')
  if redis.call('HINCRBY', counts, field, -1) <= 0 then redis.call('HDEL', counts, field) end
end
local function put(set, kind, member, lease)
  if redis.call('ZADD', set, text(now + lease), member) == 1 then
    redis.call('HINCRBY', counts, kind .. string.match(member, '^(%S+) '), 1)
  end
end
`

// sitScript is the law of seating, see there. ARGV are the group as "owner/name/share", the holder, its lease (µs), the
// capacity, how long a claim lasts (µs), and how long all is kept (ms). It returns whether the holder has a
// seat, how many its group has, and how many are its share.
var sitScript = redis.NewScript(seatsLua + `
local group, id, lease, capacity, claim, idle = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local WHOLE = 1000000
for _, dead in ipairs(redis.call('ZRANGEBYSCORE', seats, '-inf', text(now))) do drop(seats, 'h', dead) end
for _, dead in ipairs(redis.call('ZRANGEBYSCORE', claims, '-inf', text(now))) do drop(claims, 'c', dead) end
local function owner(g) return string.match(g, '^([^/]*)/') end
local held, wants, owners, n, used = {}, {}, {}, 0, 0
local function demands(g, more)
  local o = owner(g)
  if not owners[o] then owners[o] = 0 n = n + 1 end
  owners[o] = owners[o] + more
end
demands(group, 1)
local all = redis.call('HGETALL', counts)
for i = 1, #all, 2 do
  local g, count = string.sub(all[i], 2), tonumber(all[i + 1])
  demands(g, count)
  if string.sub(all[i], 1, 1) == 'h' then held[g] = count used = used + count else wants[g] = count end
end
local left, again = capacity, true
while again do
  again = false
  for o, want in pairs(owners) do
    if want >= 0 and want <= left / n then
      left, n, owners[o], again = left - want, n - 1, -1, true
    end
  end
end
local part = capacity
if n > 0 then part = left / n end
local function share(g)
  local parts = tonumber(string.match(g, '/(%d+)$'))
  if parts == 0 then return 0 end
  return math.max(math.floor(parts * part / WHOLE + 0.5), 1)
end
local own, mine, kept = held[group] or 0, share(group), 0
for g, want in pairs(wants) do
  if g ~= group then kept = kept + math.min(want, math.max(share(g) - (held[g] or 0), 0)) end
end
local member = group .. ' ' .. id
drop(claims, 'c', member)
local seated = used < capacity and (own < mine or used + kept < capacity)
if seated then
  put(seats, 'h', member, lease)
  own = own + 1
else
  if tonumber(redis.call('HGET', counts, 'c' .. group) or '0') >= capacity then -- more than that can not be kept
    for _, oldest in ipairs(redis.call('ZRANGE', claims, 0, -1)) do
      if string.sub(oldest, 1, #group + 1) == group .. ' ' then drop(claims, 'c', oldest) break end
    end
  end
  put(claims, 'c', member, claim)
end
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, idle) end
return {seated and 1 or 0, own, mine}`)

// riseScript gives a seat back. ARGV are the group and the holder.
var riseScript = redis.NewScript(seatsLua + `
drop(seats, 'h', ARGV[1] .. ' ' .. ARGV[2])
return 1`)

// Sit implements Seats.
func (r *RedisSeats) Sit(ctx context.Context, holder Holder, ask Seat) (Seating, error) {
	reply, err := r.run(ctx, sitScript, ask, groupKey(ask.Group), holder.ID, holder.Lease.Microseconds(), ask.Capacity,
		ask.Claim.Microseconds(), seatsIdle.Milliseconds())
	if err != nil {
		r.tellLater(holder, ask) // the answer may be lost, and the seat be taken
		return Seating{}, err
	}
	numbers, err := wholes(reply, 3)
	if err != nil {
		return Seating{}, err
	}
	s := Seating{Seated: numbers[0] == 1, Held: numbers[1], Share: numbers[2]}
	if s.Seated {
		r.forget(holder)
	}
	r.catchUp(ctx)
	return s, nil
}

// Rise implements Seats. The end of ctx does not stop it; when Redis is away, it is told later.
func (r *RedisSeats) Rise(ctx context.Context, holder Holder, ask Seat) {
	ctx = context.WithoutCancel(ctx)
	if r.rise(ctx, holder, ask) != nil {
		r.tellLater(holder, ask)
	}
}

func (r *RedisSeats) tellLater(holder Holder, ask Seat) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.late) < maxLateSeats {
		r.late = append(r.late, risen{holder, ask})
	}
}

func (r *RedisSeats) rise(ctx context.Context, holder Holder, ask Seat) error {
	_, err := r.run(ctx, riseScript, ask, groupKey(ask.Group), holder.ID)
	return err
}

// forget drops what could not be told of a holder who has a seat now.
func (r *RedisSeats) forget(holder Holder) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.late = slices.DeleteFunc(r.late, func(one risen) bool { return one.holder.ID == holder.ID })
}

// catchUp tells Redis what could not be told before.
func (r *RedisSeats) catchUp(ctx context.Context) {
	r.mu.Lock()
	late := r.late
	r.late = nil
	r.mu.Unlock()
	for i, one := range late {
		if r.rise(context.WithoutCancel(ctx), one.holder, one.ask) != nil {
			r.mu.Lock()
			r.late = append(late[i:], r.late...)
			r.mu.Unlock()
			return
		}
	}
}

func (r *RedisSeats) run(ctx context.Context, script *redis.Script, ask Seat, args ...any) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	key := metersTag + "seats:" + ask.Deployment
	reply, err := script.Run(ctx, r.redis.client, []string{key, key + ":held", key + ":claims"}, args...).Result()
	return reply, away("count the seats of a deployment in", err)
}

// groupKey names a group without a space, and without a slash but those between its parts.
func groupKey(g Group) string {
	return url.QueryEscape(g.Owner) + "/" + url.QueryEscape(g.Name) + "/" + strconv.FormatInt(g.Share, 10)
}
