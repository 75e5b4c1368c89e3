package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisDirectory is the directory of many replicas. The entries of a node are a hash, replica → expiry and entry; all
// nodes are a sorted set by the expiry of their last entry. The clock is Redis' own.
type RedisDirectory struct {
	redis *Redis

	mu        sync.Mutex
	revisions map[entryKey]int64 // of what this process has announced
}

// Directory returns the directory of this Redis.
func (r *Redis) Directory() *RedisDirectory {
	return &RedisDirectory{redis: r, revisions: map[entryKey]int64{}}
}

const (
	directoryTag   = prefix + "{nodes}:" // of all keys: a script's keys have to live together
	directoryIndex = directoryTag + "index"
	directoryNode  = directoryTag + "node:"
	oncePrefix     = prefix + "once:"
)

// announceScript writes an entry. The hash and the index live as long as the longest lease in them.
var announceScript = redis.NewScript(`
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local index, node, name, replica, entry, lease = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local till = string.format('%.0f', now + lease)
redis.call('HSET', node, replica, till .. ' ' .. entry)
if redis.call('PTTL', node) < lease then redis.call('PEXPIRE', node, ARGV[4]) end
if tonumber(redis.call('ZSCORE', index, name) or '0') < now + lease then redis.call('ZADD', index, till, name) end
return 1`)

// readScript returns the living entries of nodes, all of the index when none is named. Dead ones are removed.
var readScript = redis.NewScript(`
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local names = ARGV
if #KEYS == 1 then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
  names = redis.call('ZRANGE', KEYS[1], 0, -1)
end
local out = {}
for _, name in ipairs(names) do
  local key = '` + directoryNode + `' .. name
  local entries = redis.call('HGETALL', key)
  for i = 1, #entries, 2 do
    local till, entry = string.match(entries[i + 1], '^(%d+) (.*)$')
    if till and tonumber(till) > now then out[#out + 1] = entry else redis.call('HDEL', key, entries[i]) end
  end
end
return out`)

// Announce implements Directory.
func (d *RedisDirectory) Announce(ctx context.Context, p Presence, lease time.Duration) error {
	entry, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("write an entry of the directory: %w", err)
	}
	_, err = d.run(ctx, announceScript, []string{directoryIndex, directoryNode + p.Node}, p.Node, p.Replica, entry, lease.Milliseconds())
	if err != nil {
		return err
	}
	key := entryKey{p.Node, p.Replica}
	d.mu.Lock()
	before, known := d.revisions[key]
	d.revisions[key] = p.Revision
	d.mu.Unlock()
	if known && before == p.Revision {
		return nil
	}
	return d.redis.Publish(ctx, TopicDirectory)
}

// Withdraw implements Directory.
func (d *RedisDirectory) Withdraw(ctx context.Context, node, replica string) error {
	d.mu.Lock()
	delete(d.revisions, entryKey{node, replica})
	d.mu.Unlock()
	bounded, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	removed, err := d.redis.client.HDel(bounded, directoryNode+node, replica).Result()
	if err != nil {
		return away("write the directory in", err)
	}
	if removed == 0 {
		return nil
	}
	return d.redis.Publish(ctx, TopicDirectory)
}

// Lookup implements Directory.
func (d *RedisDirectory) Lookup(ctx context.Context, node string) ([]Presence, error) {
	return d.read(ctx, []string{directoryIndex, directoryNode + node}, node)
}

// List implements Directory.
func (d *RedisDirectory) List(ctx context.Context) ([]Presence, error) {
	return d.read(ctx, []string{directoryIndex})
}

// Watch implements Directory.
func (d *RedisDirectory) Watch(ctx context.Context) (<-chan struct{}, func(), error) {
	return d.redis.Subscribe(ctx, TopicDirectory)
}

func (d *RedisDirectory) read(ctx context.Context, keys []string, args ...any) ([]Presence, error) {
	reply, err := d.run(ctx, readScript, keys, args...)
	if err != nil {
		return nil, err
	}
	entries, _ := reply.([]any)
	all := make([]Presence, 0, len(entries))
	for _, e := range entries {
		text, _ := e.(string)
		var p Presence
		// An entry of a later version that this one can not read is no reason to know nothing at all.
		if json.Unmarshal([]byte(text), &p) == nil {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, byNodeAndReplica)
	return all, nil
}

func (d *RedisDirectory) run(ctx context.Context, script *redis.Script, keys []string, args ...any) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	reply, err := script.Run(ctx, d.redis.client, keys, args...).Result()
	if err != nil {
		return nil, away("use the directory in", err)
	}
	return reply, nil
}

// RedisOnce tells first uses among many replicas.
type RedisOnce struct{ redis *Redis }

// Once returns the first uses that this Redis knows.
func (r *Redis) Once() *RedisOnce { return &RedisOnce{redis: r} }

// First implements Once.
func (o *RedisOnce) First(ctx context.Context, name string, keep time.Duration) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	err := o.redis.client.SetArgs(ctx, oncePrefix+name, "", redis.SetArgs{Mode: "NX", TTL: keep.Round(time.Millisecond)}).Err()
	if errors.Is(err, redis.Nil) {
		return false, nil
	}
	return err == nil, away("ask", err)
}
