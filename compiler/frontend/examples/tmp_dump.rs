//! tmp
use qc_frontend::*;
struct D(std::path::PathBuf);
impl Files for D {
    fn read(&self, n: &str, _: u64, _: Option<u64>) -> Result<std::borrow::Cow<'_, [u8]>, FileError> {
        std::fs::read(self.0.join(n)).map(std::borrow::Cow::Owned).map_err(|_| FileError::NotFound)
    }
}
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let p = std::path::Path::new(&a[1]);
    let s = Source {
        name: "m".into(),
        model: std::fs::read(p).unwrap().into(),
        params: a.get(2).map(|x| std::fs::read(x).unwrap().into()),
        files: &D(p.parent().unwrap().into()),
    };
    let m = match import(&s, &Options { batch: None, ..Default::default() }) {
        Ok(m) => m,
        Err(e) => {
            println!("{e}");
            return;
        }
    };
    println!("{}", qc_ir::print(&m.module, Default::default()));
    for r in &m.report {
        println!("{:?}", r);
    }
}
