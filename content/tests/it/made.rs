//! Files made by hand.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;

/// Packs data.
pub fn packed(data: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// Packed zeros that unpack to so many bytes.
pub fn bomb(bytes: usize) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    let zeros = [0; 64 * 1024];
    let mut left = bytes;
    while left > 0 {
        let now = left.min(zeros.len());
        encoder.write_all(&zeros[..now]).unwrap();
        left -= now;
    }
    encoder.finish().unwrap()
}

/// One chunk of a PNG.
pub fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let summed = [&kind[..], data].concat();
    let sum = crc32fast::hash(&summed).to_be_bytes();
    [&(data.len() as u32).to_be_bytes()[..], &summed, &sum].concat()
}

/// The header of an RGB picture with 8 bits a colour.
pub fn header(width: u32, height: u32) -> Vec<u8> {
    header_of(width, height, 8, 2, 0)
}

pub fn header_of(width: u32, height: u32, bits: u8, colour: u8, interlace: u8) -> Vec<u8> {
    let mut data = [width.to_be_bytes(), height.to_be_bytes()].concat();
    data.extend_from_slice(&[bits, colour, 0, 0, interlace]);
    chunk(b"IHDR", &data)
}

/// A PNG of these chunks; `IEND` is put after them.
pub fn png_of(chunks: &[Vec<u8>]) -> Vec<u8> {
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunks.concat(), chunk(b"IEND", b"")].concat()
}

/// The rows of an RGB picture, unpacked.
pub fn rows(width: u32, height: u32) -> Vec<u8> {
    let row = |y: u32| {
        let pixels = (0..width).flat_map(move |x| [(x * 3) as u8, (y * 5) as u8, 200]);
        std::iter::once(0).chain(pixels)
    };
    (0..height).flat_map(row).collect()
}

/// A sound RGB picture.
pub fn png(width: u32, height: u32) -> Vec<u8> {
    png_of(&[header(width, height), chunk(b"IDAT", &packed(&rows(width, height)))])
}

/// One segment of a JPEG.
pub fn segment(marker: u8, data: &[u8]) -> Vec<u8> {
    [&[0xff, marker][..], &(data.len() as u16 + 2).to_be_bytes(), data].concat()
}

pub const JFIF: &[u8] = b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0";

/// The frame of a grey picture.
pub fn frame(width: u16, height: u16) -> Vec<u8> {
    let [h1, h0] = height.to_be_bytes();
    let [w1, w0] = width.to_be_bytes();
    segment(0xc0, &[8, h1, h0, w1, w0, 1, 1, 0x11, 0])
}

/// What stands before the scan of a grey picture, apart from its frame: tables with one code each.
pub fn tables() -> Vec<u8> {
    let quantities = segment(0xdb, &[&[0][..], &[1; 64]].concat());
    let one_code = |class: u8| segment(0xc4, &[&[class, 1][..], &[0; 15], &[0]].concat());
    [quantities, one_code(0x00), one_code(0x10)].concat()
}

/// A scan of a grey picture: each of its blocks takes two bits, all 0.
pub fn scan(width: u16, height: u16) -> Vec<u8> {
    let blocks = usize::from(width).div_ceil(8) * usize::from(height).div_ceil(8);
    let mut data = vec![0; (2 * blocks).div_ceil(8)];
    let unused = 8 * data.len() - 2 * blocks;
    if let Some(last) = data.last_mut() {
        *last |= ((1u16 << unused) - 1) as u8;
    }
    [segment(0xda, &[1, 1, 0, 0, 63, 0]), data].concat()
}

/// A JPEG of these segments; its beginning and end are put around them.
pub fn jpeg_of(segments: &[Vec<u8>]) -> Vec<u8> {
    [vec![0xff, 0xd8], segments.concat(), vec![0xff, 0xd9]].concat()
}

/// A sound grey picture.
pub fn jpeg(width: u16, height: u16) -> Vec<u8> {
    jpeg_of(&[segment(0xe0, JFIF), frame(width, height), tables(), scan(width, height)])
}

/// A PDF of these objects, numbered from 1; the first is its catalog.
pub fn pdf_of(objects: &[Vec<u8>], trailer: &str) -> Vec<u8> {
    let mut file = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n".to_vec();
    let mut table = String::new();
    for (number, object) in objects.iter().enumerate() {
        table.push_str(&format!("{:010} 00000 n \n", file.len()));
        file.extend_from_slice(format!("{} 0 obj\n", number + 1).as_bytes());
        file.extend_from_slice(object);
        file.extend_from_slice(b"\nendobj\n");
    }
    let (at, size) = (file.len(), objects.len() + 1);
    let end = format!(
        "xref\n0 {size}\n0000000000 65535 f \n{table}trailer\n<</Size {size}/Root 1 0 R{trailer}>>\nstartxref\n{at}\n%%EOF\n"
    );
    file.extend_from_slice(end.as_bytes());
    file
}

/// A stream object.
pub fn stream(dictionary: &str, data: &[u8]) -> Vec<u8> {
    let head = format!("<<{dictionary}/Length {}>>\nstream\n", data.len());
    [head.as_bytes(), data, b"\nendstream"].concat()
}

/// Content that shows a line of text.
pub fn shows(text: &str) -> Vec<u8> {
    format!("BT /F1 12 Tf 72 720 Td ({text}) Tj ET").into_bytes()
}

/// Objects of a PDF with one page that has this content, these entries and this catalog: 1 catalog, 2 pages, 3 page, 4
/// font, 5 content; more may follow.
pub fn one_page(catalog: &str, page: &str, content: Vec<u8>, more: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut objects = vec![
        format!("<</Type/Catalog/Pages 2 0 R{catalog}>>").into_bytes(),
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>".to_vec(),
        format!(
            "<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 5 0 R/Resources<</Font<</F1 4 0 R>>/XObject<</X6 6 0 R>>>>{page}>>"
        )
        .into_bytes(),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>".to_vec(),
        content,
    ];
    objects.extend_from_slice(more);
    objects
}

/// A sound PDF that says this on its page.
pub fn pdf(text: &str) -> Vec<u8> {
    pdf_of(&one_page("", "", stream("", &shows(text)), &[]), "")
}

/// A sound PDF with so many pages, each of which says its number.
pub fn pages(count: usize) -> Vec<u8> {
    let kids: String = (0..count).map(|page| format!("{} 0 R ", 4 + 2 * page)).collect();
    let mut objects = vec![
        b"<</Type/Catalog/Pages 2 0 R>>".to_vec(),
        format!("<</Type/Pages/Kids[{kids}]/Count {count}/Resources<</Font<</F1 3 0 R>>>>>>").into_bytes(),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>".to_vec(),
    ];
    for page in 0..count {
        let content = 5 + 2 * page;
        objects.push(format!("<</Type/Page/Parent 2 0 R/Contents {content} 0 R>>").into_bytes());
        objects.push(stream("", &shows(&format!("Page {}", page + 1))));
    }
    pdf_of(&objects, "")
}

/// An empty ZIP archive with this comment: 22 bytes and it.
pub fn zip(comment: &[u8]) -> Vec<u8> {
    let mut end = b"PK\x05\x06".to_vec();
    end.extend_from_slice(&[0; 16]);
    end.extend_from_slice(&(comment.len() as u16).to_le_bytes());
    end.extend_from_slice(comment);
    end
}
