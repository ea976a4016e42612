"""Documents with what goes wrong first in tokenizers: written cases and random mixtures, the same every time."""
import random

WRITTEN = [
    "", " ", "  ", "   ", "\n", "\r\n", "\r", "\t", " \n", "\n ", " \n \n  x", "\r\n\r\n  \r\n x", "a\n\nb", "a \n b", "x  ", "x \t y",
    "end with spaces   ", "   start", "a" * 5000, " " * 3000, " " * 3000 + "x", "\n" * 2000 + "x", "\t" * 100 + " x", "!" * 1000,
    "1234567890" * 50, "1 22 333 4444 55555", "3.14159, 1,000,000 -1e10", "don't DON'T Don'T we'Re I'LL they'vE he'D it'S 'Sam 's's",
    "'\u017f '\u017Fam '\u212A x'\u017f", "''s '''s ' s '", "'re're'RE'Re", "can\u2019t won\u2019t", "o'clock l'eau d'\u00e9t\u00e9 'Tis 'twas",
    "e\u0301 caf\u0065\u0301 n\u0303 \u0041\u030A \u212B \u1E9B\u0323 \u0344 \u0958 \u09DC \uFB1D \u2126",
    "\u0301", "a\u0301\u0302\u0303\u0323b", "\u0323\u0301x", "o\u0302\u0323", "\u1100\u1161\u11A8 \uAC00\u11A8 \uAC01", "\u0DDC\u0DCA \u0DD9\u0DCF",
    "\u4F60\u597D\uFF0C\u4E16\u754C\u3002\u65E5\u672C\u8A9E\u306E\u30C6\u30AD\u30B9\u30C8 \uD55C\uAD6D\uC5B4 \uF900\uFA10",
    "\U0001F468\u200D\U0001F469\u200D\U0001F467\u200D\U0001F466 \U0001F1E9\U0001F1EA \U0001F44D\U0001F3FD \u2764\uFE0F \u263A",
    "\u0645\u0631\u062D\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645\u060C \u0661\u0662\u0663\u0664 \u0627\u0644\u0633\u0651\u0644\u0627\u0645",
    "\u0928\u092E\u0938\u094D\u0924\u0947 \u0967\u0968\u0969 \u0BA4\u0BAE\u0BBF\u0BB4\u0BCD \u0E2A\u0E27\u0E31\u0E2A\u0E14\u0E35 \u0E51\u0E52",
    "\u05E9\u05DC\u05D5\u05DD \u05E9\u05C1\u05BC \u202B\u202C\u200F\u200E", "x\u00B2 \u00BD \u2160\u2163 \u3007 \u2460\u24B6\u24E9 \u0BF0 \uFF11\uFF12\uFF13 \U0001D7D8",
    "a\u00A0b \u00A0 c\u00A0\u00A0d", "a\u2003b\u2009c\u3000d\u1680e\u202Ff\u205Fg\u180Eh\u200Bi\uFEFFj", "a\u0085b\u2028c\u2029d\u000Be\u000Cf\u001Cg",
    "a\u0000b\u0000\u0000", "\u0001\u0002\u007F\u0080\u009F", "\uE000\uF8FF \U000F0000 \U0010FFFD", "\uFDD0 \uFFFE \uFFFF \U0010FFFF \u0378 \U000E0FFF",
    "\u1C89\uA7CB\U000105C0\U00010D4A\U00031350\U0002EBF0 \U00010D40\U0001CCF0\U00011BF0", "\u01C5\u01C8 \u02B0\u02BC \u00AA\u00BA \u0295 \uA78C",
    "\ufb00\ufb01\ufb05\ufb06 \u1E9E\u00DF \u0130\u0131 \u03A3\u03C2\u03C3", "_foo __bar__ snake_case camelCase \u203F\u2040",
    "def f(x):\n    return x**2  # comment\n\n\n\tif (a&&b) {\r\n\t\t;\r\n}\r\n", "http://example.com/?q=a%20b&c=d#e <b>bold</b> &amp; $5.00 50% #tag @user",
    "<|endoftext|>", "a<|endoftext|>b<|endoftext|><|endoftext|> <|endoftext|>\n", "<|endoftext", "<|<|endoftext|>|>", " !? ...\n\n... \u2026\n",
    ".\n.\r\n. \n ?\r\r\n x", "\u00BF\u00A1\u00AB\u00BB\u2013\u2014\n\u2014", "\u0300\u0301 \u0300", "a\u20DDb \u0488 \uFE0F\uFE0F", "\U0001D400\U0001D54F \U00010400\U00010428",
]

RANGES = [
    (0x20, 0x7E), (0x20, 0x7E), (0x00, 0x20), (0xA0, 0x24F), (0x250, 0x36F), (0x370, 0x5FF), (0x600, 0x6FF), (0x900, 0xDFF), (0xE00, 0xEFF),
    (0x1100, 0x11FF), (0x1E00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x218F), (0x2460, 0x24FF), (0x3000, 0x30FF), (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A3), (0xE000, 0xE010), (0xF900, 0xFAFF), (0xFB00, 0xFDFF), (0xFE00, 0xFFFF), (0x10000, 0x10FFF), (0x11000, 0x12FFF),
    (0x13000, 0x14FFF), (0x16000, 0x18FFF), (0x1B000, 0x1BFFF), (0x1CC00, 0x1DFFF), (0x1E000, 0x1FAFF), (0x20000, 0x323FF), (0xE0000, 0xE01EF),
]
SPICE = [" ", " ", "  ", "\n", "\r\n", "\t", "'", "'s", "'LL", "'ve", "\u00A0", "\u3000", "\u0085", "\u2028", "1", "23", "456", "\u0301", "\u200D", "x", "The", "!", "."]


def random_documents(count, seed):
    draw = random.Random(seed)
    for _ in range(count):
        low, high = draw.choice(RANGES)
        parts = []
        for _ in range(draw.randint(1, 200)):
            if draw.random() < 0.05:
                low, high = draw.choice(RANGES)
            if draw.random() < 0.4:
                parts.append(draw.choice(SPICE))
            code = draw.randint(low, high)
            if not 0xD800 <= code < 0xE000:
                parts.append(chr(code))
        yield "".join(parts)


def every_code_point():
    """Each code point beside a letter, a space, a digit and an apostrophe, 512 to a document."""
    codes = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000 and (c < 0x33000 or c % 4096 < 64 or 0xE0000 <= c < 0xE0200)]
    for i in range(0, len(codes), 512):
        yield "".join(f"a{chr(c)} {chr(c)}1'{chr(c)}" for c in codes[i:i + 512])


def hard_documents():
    return WRITTEN + list(random_documents(3000, 7)) + list(every_code_point())
