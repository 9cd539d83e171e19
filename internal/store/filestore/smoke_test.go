package filestore_test
import ("testing";"strings";"io";"github.com/hf-cache-sync/hf-cache-sync/internal/store";"github.com/hf-cache-sync/hf-cache-sync/internal/store/filestore";"path/filepath")
func sec(s string) *io.SectionReader { return io.NewSectionReader(strings.NewReader(s),0,int64(len(s))) }
func TestSmoke(t *testing.T){
 dir:=filepath.Join(t.TempDir(),"x y","b")
 s,err:=filestore.Open(dir,filestore.Options{}); if err!=nil{t.Fatal(err)}
 ctx:=t.Context()
 i,err:=s.Put(ctx,"refs/a/main",sec("hello"),store.PutOptions{Metadata:map[string]string{"resolved-at":"x"}}); t.Log(i,err)
 i,err=s.Put(ctx,"refs/a/main",sec("hello"),store.PutOptions{IfAbsent:true}); t.Log(i,err)
 r,i,err:=s.Get(ctx,"refs/a/main",store.Range{Offset:1,Length:2}); t.Log(i,err); b,_:=io.ReadAll(r); t.Log(string(b))
 u,err:=s.StartUpload(ctx,"blobs/x",store.PutOptions{}); t.Log(u,err)
 p2,err:=s.PutPart(ctx,u,2,sec("wor")); t.Log(p2,err)
 p1,err:=s.PutPart(ctx,u,1,sec("hello")); t.Log(p1,err)
 ps,err:=s.Parts(ctx,u); t.Log(ps,err)
 i,err=s.Complete(ctx,u,ps); t.Log(i,err)
 for o,err:=range s.List(ctx,""){t.Log(o,err)}
 t.Log(s.Delete(ctx,"refs/a/main"), s)
}
