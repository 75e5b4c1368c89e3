package health

// budget is what a deployment's retries are paid from, in fifths of a retry: see doc.go. The zero value is
// empty.
type budget struct{ fifths int32 }

const (
	fullBudget   = 50 // ten retries
	firstAttempt = 1
	oneRetry     = 5
)

func (b *budget) earn() { b.fifths = min(b.fifths+firstAttempt, fullBudget) }

// spend takes a retry. It asks for a permit later like every attempt, which earns it a fifth that it must
// not keep: that is taken here as well.
func (b *budget) spend() bool {
	if b.fifths < oneRetry {
		return false
	}
	b.fifths -= oneRetry + firstAttempt
	return true
}
