//! Puts a unified kernel image together, as `ukify` does: sections behind those of systemd's stub
//! (UAPI group specification "Unified Kernel Image"; PE format, "COFF File Header" to "Section Table").

use crate::guest::Failure;

/// The stub with these sections added; names have up to eight bytes.
///
/// # Errors
/// Why the stub cannot take them.
pub fn unified(stub: &[u8], sections: &[(&str, &[u8])]) -> Result<Vec<u8>, Failure> {
    /// `IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ`.
    const READ: u32 = 0x4000_0040;
    const HEADER: usize = 40;
    let mut file = stub.to_vec();
    let pe = long(&file, 0x3c)? as usize;
    if file.get(pe..pe + 4) != Some(b"PE\0\0") {
        return Err("the stub is no PE file".into());
    }
    let optional = pe + 24;
    let (mut count, optional_size) = (short(&file, pe + 6)?, short(&file, pe + 20)?);
    let table = optional + usize::from(optional_size);
    let (section_align, file_align) = (long(&file, optional + 32)?, long(&file, optional + 36)?);
    if !section_align.is_power_of_two() || !file_align.is_power_of_two() {
        return Err("the stub's alignment is none".into());
    }
    let headers_end = long(&file, optional + 60)? as usize;
    let mut end = 0;
    for at in (0..usize::from(count)).map(|index| table + index * HEADER) {
        end = end.max(long(&file, at + 12)? + long(&file, at + 8)?);
    }
    for (name, content) in sections {
        let at = table + usize::from(count) * HEADER;
        if at + HEADER > headers_end || file[at..at + HEADER].iter().any(|byte| *byte != 0) {
            return Err(format!("no room for the header of {name}").into());
        }
        let size = u32::try_from(content.len())?;
        let place = end.next_multiple_of(section_align);
        file.resize(file.len().next_multiple_of(file_align as usize), 0);
        let raw = u32::try_from(file.len())?;
        let mut header = name.as_bytes().to_vec();
        header.resize(8, 0);
        for word in [size, place, size.next_multiple_of(file_align), raw, 0, 0, 0, READ] {
            header.extend(word.to_le_bytes());
        }
        file[at..at + HEADER].copy_from_slice(&header);
        file.extend(*content);
        file.resize(file.len().next_multiple_of(file_align as usize), 0);
        end = place + size;
        count += 1;
    }
    file[pe + 6..pe + 8].copy_from_slice(&count.to_le_bytes());
    let image = end.next_multiple_of(section_align).to_le_bytes();
    file[optional + 56..optional + 60].copy_from_slice(&image);
    Ok(file)
}

fn short(file: &[u8], at: usize) -> Result<u16, Failure> {
    let bytes = file.get(at..at + 2).ok_or("the stub is cut short")?;
    Ok(u16::from_le_bytes(bytes.try_into()?))
}

fn long(file: &[u8], at: usize) -> Result<u32, Failure> {
    let bytes = file.get(at..at + 4).ok_or("the stub is cut short")?;
    Ok(u32::from_le_bytes(bytes.try_into()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A PE file with one section of 16 bytes and room for two more headers.
    fn stub() -> Vec<u8> {
        let mut file = vec![0; 0x400];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x3c, &[0x40]);
        put(0x40, b"PE\0\0");
        put(0x46, &[1, 0]);
        put(0x54, &[0x70, 0]);
        put(0x78, &0x1000_u32.to_le_bytes());
        put(0x7c, &0x200_u32.to_le_bytes());
        put(0x94, &(0xc8_u32 + 3 * 40).to_le_bytes());
        put(0xc8, b".text");
        put(0xd0, &16_u32.to_le_bytes());
        put(0xd4, &0x1000_u32.to_le_bytes());
        file
    }

    #[test]
    fn sections_lie_where_their_headers_say() {
        let file = unified(&stub(), &[(".cmdline", b"quiet"), (".linux", &[7; 0x1001])]).unwrap();
        assert_eq!(short(&file, 0x46).unwrap(), 3);
        let mut last = 0x1010;
        for (at, content) in [(0xf0, &b"quiet"[..]), (0x118, &[7; 0x1001])] {
            let [size, place, raw_size, raw] =
                [8, 12, 16, 20].map(|o| long(&file, at + o).unwrap());
            assert!(place >= last && place % 0x1000 == 0 && raw % 0x200 == 0 && raw_size >= size);
            assert_eq!(&file[raw as usize..(raw + size) as usize], content);
            last = place + size;
        }
        assert_eq!(long(&file, 0x58 + 56).unwrap(), 0x5000);
        let many: Vec<(&str, &[u8])> = vec![(".x", b"x"); 3];
        assert!(unified(&stub(), &many).is_err());
        assert!(unified(b"MZ", &[]).is_err());
    }
}
