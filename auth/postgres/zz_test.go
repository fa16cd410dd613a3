package postgres
import ("testing";"time";"congthu/auth/postgres/pgtest")
func TestZZ(t *testing.T){
 pgtest.Database(t)
 for range 3 {
 b:=time.Now(); dsn:=pgtest.Database(t); t.Log("db",time.Since(b))
 for range 3 {
 b=time.Now(); s:=open(t,Options{DSN:dsn}); t.Log("open",time.Since(b))
 b=time.Now(); s.Account(t.Context(),"a"); t.Log("acc",time.Since(b))
 b=time.Now(); s.Account(t.Context(),"a"); t.Log("acc",time.Since(b))
 b=time.Now(); s.Update(t.Context(),"a",0,fail); t.Log("upd",time.Since(b))
 b=time.Now(); s.Update(t.Context(),"a",0,fail); t.Log("upd",time.Since(b))
 b=time.Now(); s.Close(); t.Log("close",time.Since(b))
 }
 }
}
