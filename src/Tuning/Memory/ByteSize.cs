// Amounts of memory as users write and read them.
using System.Globalization;

namespace IptNative.Tuning.Memory;

/// <summary>Text and bytes.</summary>
public static class ByteSize
{
    private static readonly (string Unit, double Bytes)[] Units =
    [
        ("TiB", 1L << 40), ("GiB", 1L << 30), ("MiB", 1L << 20), ("KiB", 1L << 10),
        ("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("KB", 1e3), ("B", 1),
    ];

    /// <summary>What <see cref="Parse"/> reads, for messages.</summary>
    public const string Expected = "a number and a unit, for example 6GiB, 700MB or 1.5GB";

    /// <summary>Reads an amount.</summary>
    /// <param name="text">A number and a unit: 6GiB, 700MB, 1.5 GB.</param>
    /// <returns>Bytes, 1 or more.</returns>
    /// <exception cref="ArgumentException">No such amount.</exception>
    public static long Parse(string text) => TryParse(text, out long bytes) ? bytes : throw new ArgumentException($"memory: found '{text}', expected {Expected}.", nameof(text));

    /// <summary>Reads an amount, where it is one.</summary>
    /// <param name="text">As for <see cref="Parse"/>.</param>
    /// <param name="bytes">1 or more.</param>
    /// <returns>Whether it is one.</returns>
    public static bool TryParse(string text, out long bytes)
    {
        ArgumentNullException.ThrowIfNull(text);
        bytes = 0;
        foreach ((string unit, double size) in Units)
        {
            if (!text.EndsWith(unit, StringComparison.OrdinalIgnoreCase))
                continue;
            if (!double.TryParse(text[..^unit.Length].Trim(), NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double number) || number * size is not (>= 1 and < 1e18))
                return false;
            bytes = (long)(number * size);
            return true;
        }
        return false;
    }

    /// <summary>An amount in decimal units, as `bench` prints peaks.</summary>
    /// <param name="bytes">0 or more.</param>
    /// <returns>For example 598 MB or 11.4 GB.</returns>
    public static string Text(long bytes) => bytes >= 10_000_000_000 ? $"{(bytes / 1e9).ToString("0.0", CultureInfo.InvariantCulture)} GB" : $"{(bytes / 1e6).ToString("#,0", CultureInfo.InvariantCulture)} MB";
}
