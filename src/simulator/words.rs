//! The words of simulated captions, and escapes for JSON.
//!
//! The words include several languages and scripts, an emoji, a quote and a backslash, like real captions.

/// Words of one language each, separated by spaces.
pub(super) const CAPTIONS: [&str; 6] = [
    "barang bagus murah banget kakak warna lembut nyaman dipakai setiap hari bahan tebal ukuran pas gratis ongkir stok \
     terbatas cocok untuk kulit \"wajib\" punya keranjang kuning",
    "soft light and easy to clean this little bottle goes a long way my skin has never felt better worth every cent it's \
     back\\slash proof 🔥",
    "ดี ถูก สวย นุ่ม คุ้ม รีบ ใหม่ ส่ง สี มาก ฟรี ของ ใส่ ทุก วัน ราคา",
    "đẹp quá chất vải mềm mịn giá rẻ dễ dùng màu này hợp với da của mình giao hàng nhanh mỗi ngày",
    "muy bonito suave y cómodo para toda la mañana envío rápido sin olor colores vivos año nuevo oferta piel niños",
    "軽い 毎日 新色 最高 肌 服 夏 人気 すぐ 使える 送料 無料 香り お気に入り 色 旅",
];

/// Hash tags without `#`, separated by spaces.
pub(super) const TAGS: &str = "haul ootd fyp serum murah racun dapur rumah outfit gadget review jujur promo diskon viral \
                               foryou oferta cocina hogar moda piel làmđẹp giảmgiá nhà รีวิว ของดี コスメ 夏服 가성비 추천 \
                               beauté küche fitness petcare baby skincare lipbalm deal style musthave";

/// A text escaped for JSON, without quotes.
pub(super) fn escaped(text: &str) -> Vec<u8> {
    let quoted = serde_json::Value::from(text).to_string();
    quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or_default().into()
}
