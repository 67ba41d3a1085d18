using System.IO.Compression;
using IptNative.Model.Checkpoints;
using Xunit;

namespace IptNative.Model.Tests.Checkpoints;

public sealed class ZipDirectoryTests : IDisposable
{
    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    private Dictionary<string, ZipEntry> Read(byte[] zip)
    {
        using var map = new MappedFile(_folder.Write("x.zip", zip));
        return ZipDirectory.Read(map);
    }

    private string Refusal(byte[] zip) => WeightExtensions.Message(() => Read(zip));

    [Theory]
    [InlineData(false, "")]
    [InlineData(true, "")]
    [InlineData(false, "a comment with PK in it")]
    public void EntriesAreFoundWithAndWithoutZip64(bool zip64, string comment)
    {
        byte[] data = [.. Enumerable.Range(0, 300).Select(i => (byte)i)];
        byte[] zip = new ZipMaker { Zip64 = zip64, Comment = comment }.Add("a/x", data).Add("a/empty", []).Build();
        Dictionary<string, ZipEntry> entries = Read(zip);
        Assert.Equal(["a/empty", "a/x"], entries.Keys.Order());
        ZipEntry x = entries["a/x"];
        Assert.Equal(data, zip[(int)x.Offset..(int)(x.Offset + x.Length)]);
        Assert.Equal(ZipMaker.Crc(data), x.Crc);
    }

    [Fact]
    public void ZipBombIsRefusedWithoutInflating()
    {
        using var stream = new MemoryStream();
        using (var zip = new ZipArchive(stream, ZipArchiveMode.Create, leaveOpen: true))
        {
            using Stream entry = zip.CreateEntry("archive/data.pkl", CompressionLevel.SmallestSize).Open();
            entry.Write(new byte[10_000_000]);
        }
        string message = Refusal(stream.ToArray());
        Assert.Contains("entry 'archive/data.pkl' is compressed (method 8), expected stored entries", message, StringComparison.Ordinal);
        Assert.Contains("zip -0", message, StringComparison.Ordinal);
    }

    [Fact]
    public void LyingEntriesAreRefused()
    {
        Assert.Contains("expected it to end before", Refusal(new ZipMaker().Add("a", new byte[8], claimedLength: 1 << 20).Build()), StringComparison.Ordinal);
        Assert.Contains("ZIP64 size is", Refusal(new ZipMaker { Zip64 = true }.Add("a", new byte[8], claimedLength: 1L << 60).Build()), StringComparison.Ordinal);
        Assert.Contains("stands there twice", Refusal(new ZipMaker().Add("a", new byte[8]).Add("a", new byte[8]).Build()), StringComparison.Ordinal);
        // The first entry claims the second one's header and bytes too: the classic overlapping bomb.
        Assert.Contains("overlap", Refusal(new ZipMaker().Add("a", new byte[8], claimedLength: 120).Add("b", new byte[100]).Build()), StringComparison.Ordinal);
    }

    [Fact]
    public void ContradictionsBetweenDirectoryAndLocalHeaderAreRefused()
    {
        byte[] zip = new ZipMaker().Add("abc", new byte[8]).Build();
        byte[] renamed = [.. zip];
        renamed[30] = (byte)'z';
        Assert.Contains("another name in its local header", Refusal(renamed), StringComparison.Ordinal);
        byte[] encrypted = [.. zip];
        encrypted[zip.AsSpan().IndexOf("PK\u0001\u0002"u8) + 8] |= 1;
        Assert.Contains("is encrypted", Refusal(encrypted), StringComparison.Ordinal);
        byte[] count = [.. zip];
        count[^12] = 200;
        Assert.Contains("claims 200 entries", Refusal(count), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(7)]
    [InlineData(8)]
    [InlineData(1003)]
    public void CheckSumEqualsTheBitwiseOne(int length)
    {
        byte[] data = new byte[length];
        new Random(3).NextBytes(data);
        Assert.Equal(ZipMaker.Crc(data), Crc32.Append(0, data));
        // In two pieces, as a large entry is read.
        Assert.Equal(ZipMaker.Crc(data), Crc32.Append(Crc32.Append(0, data.AsSpan(0, length / 3)), data.AsSpan(length / 3)));
    }
}
