package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"shareai/internal/fault"
)

// RedisAnswers are answers that many replicas share. Whoever holds a name records on a tape in memory,
// so that his own caller does not depend on Redis; a copyist plays that tape and copies it to Redis,
// where other replicas read it.
//
// In Redis a name is a hash: work (the fingerprint), id (of the recording), ended (once it is). The frames
// are the list under the name and the id; an empty element is the end. While the recording runs, both
// live as long as its lease, which the copyist renews: when a process dies, its names become free.
// Players ask for more at intervals instead of waiting for a message. Few answers are ever played
// while they run, and nothing is lost with a message that does not come.
type RedisAnswers struct {
	redis   *Redis
	limits  AnswerLimits
	running atomic.Int64
}

// Answers returns the answers of this Redis. Its Close waits a moment for what is still being copied.
func (r *Redis) Answers(limits AnswerLimits) *RedisAnswers {
	return &RedisAnswers{redis: r, limits: limits.withDefaults()}
}

const (
	answersPrefix = prefix + "answer:"
	// pageFrames is how many frames travel at once.
	pageFrames = 64
	// copyPause is between two copies of a running answer, so that one of many small frames is not as
	// many calls.
	copyPause = 50 * time.Millisecond
	// A player that finds nothing asks again after playPause, later after maxPlayPause.
	playPause    = 20 * time.Millisecond
	maxPlayPause = 250 * time.Millisecond
	// dropTime is how long what was dropped stays for those who play it.
	dropTime = 5 * time.Minute
)

// claimScript takes a name, or says who has it. A kept answer whose frames were evicted is not there.
var claimScript = redis.NewScript(`
local name, work, id, lease = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local holder = redis.call('HMGET', name, 'work', 'id', 'ended')
if holder[2] and not (holder[3] and redis.call('EXISTS', name .. ':' .. holder[2]) == 0) then
  if holder[1] ~= work then return '' end
  return holder[2]
end
redis.call('HSET', name, 'work', work, 'id', id)
redis.call('HDEL', name, 'ended')
redis.call('PEXPIRE', name, lease)
return id`)

// appendScript adds frames behind the first ones, of which there are as many as ARGV[3] says, and renews the
// lease. A call that is repeated adds nothing. It returns 0 when the name is no longer ours.
var appendScript = redis.NewScript(`
local name, frames, id, lease, at = KEYS[1], KEYS[2], ARGV[1], ARGV[2], tonumber(ARGV[3])
if redis.call('HGET', name, 'id') ~= id then return 0 end
local there = redis.call('LLEN', frames)
if there < at then return 0 end
for i = 4 + there - at, #ARGV do redis.call('RPUSH', frames, ARGV[i]) end
redis.call('PEXPIRE', name, lease)
redis.call('PEXPIRE', frames, lease)
return 1`)

// keepScript ends a recording and keeps it.
var keepScript = redis.NewScript(`
local name, frames, id, keep = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
if redis.call('HGET', name, 'id') ~= id then return 0 end
redis.call('RPUSH', frames, '')
redis.call('HSET', name, 'ended', '1')
redis.call('PEXPIRE', name, keep)
redis.call('PEXPIRE', frames, keep)
return 1`)

// dropScript ends a recording and frees its name. What there is stays a while for those who play it.
var dropScript = redis.NewScript(`
local name, frames, id, stay = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
if redis.call('HGET', name, 'id') ~= id then return 0 end
redis.call('DEL', name)
redis.call('RPUSH', frames, '')
redis.call('PEXPIRE', frames, stay)
return 1`)

// playScript returns frames from a place on; false when there are none and none will come.
var playScript = redis.NewScript(`
local name, frames, id, from, to = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]
local list = redis.call('LRANGE', frames, from, to)
if #list == 0 and (redis.call('HGET', name, 'id') ~= id or redis.call('HEXISTS', name, 'ended') == 1) then return false end
return list`)

// Claim implements Answers.
func (a *RedisAnswers) Claim(ctx context.Context, name string, work Fingerprint) (Claim, error) {
	if a.running.Load() >= a.limits.Running {
		return Claim{}, errTooManyTapes
	}
	own := recording{redis: a.redis, limits: &a.limits, id: rand.Text()}
	own.name = answersPrefix + name
	own.frames = own.name + ":" + own.id
	reply, err := own.call(ctx, claimScript, work[:], own.id, a.limits.Lease.Milliseconds())
	if err != nil {
		return Claim{}, errNoClaim.Because(err)
	}
	switch id, _ := reply.(string); id {
	case "":
		return Claim{}, ErrOtherWork
	case own.id:
		ended := make(chan struct{})
		tape := &Tape{limits: &a.limits, running: &a.running, onEnd: func(tapeEnd, int64) { close(ended) }}
		c := &copyist{recording: own, tape: tape, player: tape.Play(), ended: ended, renewed: time.Now()}
		if !a.redis.begin(c.run) {
			return Claim{}, errNoClaim.Because(redis.ErrClosed)
		}
		return Claim{Tape: tape}, nil
	default:
		own.id, own.frames = id, own.name+":"+id
		return Claim{Player: &redisPlayer{recording: own, heard: time.Now()}}, nil
	}
}

// recording is an answer in Redis.
type recording struct {
	redis  *Redis
	limits *AnswerLimits
	name   string // key of the hash
	frames string // key of the list
	id     string
}

// call runs a script on the recording, within redisTimeout.
func (r *recording) call(ctx context.Context, script *redis.Script, args ...any) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	return script.Run(ctx, r.redis.client, []string{r.name, r.frames}, args...).Result()
}

// copyist copies a tape to Redis.
type copyist struct {
	recording
	tape    *Tape
	player  Player
	ended   <-chan struct{} // of the tape
	copied  int             // frames
	renewed time.Time       // when Redis last answered
}

// run copies until the tape has ended. When Redis is away for longer than the lease, the name is lost, and
// with it no more than a repeat's chance to be spared the work.
func (c *copyist) run(ctx context.Context) {
	for {
		beat, cancel := context.WithTimeout(ctx, c.limits.Lease/3)
		frames, err := c.player.Next(beat)
		cancel()
		end := errors.Is(err, io.EOF)
		if ctx.Err() != nil || !c.copy(ctx, frames) {
			return
		}
		if end {
			c.finish(ctx)
			return
		}
		select {
		case <-c.ended: // there is nothing left to gather
		case <-time.After(copyPause):
		case <-ctx.Done():
		}
	}
}

// copy adds frames and renews the lease; false when the name is lost.
func (c *copyist) copy(ctx context.Context, frames [][]byte) bool {
	for {
		page := frames[:min(len(frames), pageFrames)]
		args := make([]any, 0, 3+len(page))
		args = append(args, c.id, c.limits.Lease.Milliseconds(), c.copied)
		for _, frame := range page {
			args = append(args, frame)
		}
		if !c.surely(ctx, appendScript, args...) {
			return false
		}
		c.copied += len(page)
		if frames = frames[len(page):]; len(frames) == 0 {
			return true
		}
	}
}

// finish ends the recording as the tape has ended.
func (c *copyist) finish(ctx context.Context) {
	if c.tape.ended() == endKept {
		c.surely(ctx, keepScript, c.id, c.limits.Keep.Milliseconds())
		return
	}
	c.surely(ctx, dropScript, c.id, dropTime.Milliseconds())
}

// surely runs a script, again and again while Redis does not answer and the lease may still last; false
// when the name is lost.
func (c *copyist) surely(ctx context.Context, script *redis.Script, args ...any) bool {
	for {
		reply, err := c.call(ctx, script, args...)
		if err == nil {
			c.renewed = time.Now()
			return reply == int64(1)
		}
		if time.Since(c.renewed) > c.limits.Lease || ctx.Err() != nil {
			c.redis.log.WarnContext(ctx, "an answer under an idempotency key could not be shared: Redis does not answer", "error", fault.Redact(err.Error()))
			return false
		}
		select {
		case <-time.After(maxPlayPause):
		case <-ctx.Done():
		}
	}
}

// redisPlayer plays what another recorder, here or elsewhere, copies to Redis.
type redisPlayer struct {
	recording
	at    int       // frames played
	heard time.Time // when Redis last answered
	ended bool
}

// Next implements Player.
func (p *redisPlayer) Next(ctx context.Context) ([][]byte, error) {
	for pause := playPause; !p.ended; pause = min(2*pause, maxPlayPause) {
		frames, err := p.look(ctx)
		if len(frames) > 0 || err != nil {
			return frames, err
		}
		if p.ended {
			break
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return nil, io.EOF
}

// look asks once. That Redis does not answer is no reason to give up before the lease has run out.
func (p *redisPlayer) look(ctx context.Context) ([][]byte, error) {
	reply, err := p.call(ctx, playScript, p.id, p.at, p.at+pageFrames-1)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, redis.Nil):
		return nil, ErrLost
	case err != nil:
		if time.Since(p.heard) > p.limits.Lease {
			return nil, fmt.Errorf("%w: %w", ErrLost, err)
		}
		return nil, nil
	}
	p.heard = time.Now()
	list, _ := reply.([]any)
	frames := make([][]byte, 0, len(list))
	for _, element := range list {
		frame, _ := element.(string)
		if frame == "" {
			p.ended = true
			break
		}
		frames = append(frames, []byte(frame))
	}
	p.at += len(frames)
	if p.ended {
		return frames, io.EOF
	}
	return frames, nil
}
