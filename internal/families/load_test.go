package families
import ("testing";"fmt")
func TestTop(t *testing.T){
 for _,n:=range []string{"gpt-4o","gpt-4o-mini","gpt-4.1","gpt-5","gpt-5-mini","gpt-6-sol","o3","o4-mini","gpt-oss-120b","claude-sonnet-4.5","claude-opus-5.5","claude-haiku-4.5","gemini-2.5-pro","gemini-2.5-flash","llama-3.3-70b","llama-3.1-8b","llama-4-maverick","qwen3-235b-a22b","qwen2.5-72b","mistral-large-3","mistral-small-3.2-24b","deepseek-v3.2","deepseek-r1","gemma-3-27b","phi-4","glm-5.3","kimi-k2.6","command-a","grok-4","nova-pro","minimax-m2.5","gpt-3.5-turbo"}{
 e,ok:=Find(n); if !ok{t.Fatal(n)}
 fmt.Printf("%-22s",n); l:=Equivalents(e,All()); for i,g:=range l{ if i==8{break}; fmt.Printf(" %s %.2f",g.Name,g.Grade)}; fmt.Println(" of",len(l))
 }}
