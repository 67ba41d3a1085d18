// The event files read back with a decoder written from the format's description, and against published check sums.
using System.Buffers.Binary;
using System.Text;
using IptNative.Tuning.Runs;
using Xunit;

namespace IptNative.Tuning.Tests.Runs;

public sealed class TensorBoardFileTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("iptnative-").FullName;

    internal sealed record Event(double WallTime, long Step, string? Version, List<(string Tag, float Value)> Scalars);

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    // RFC 3720, appendix B.4, and the check value of the CRC catalogue ("123456789").
    [Fact]
    public void CheckSumsAreCastagnolis()
    {
        Assert.Equal(0x8a9136aau, TensorBoardFile.Crc32C(new byte[32]));
        Assert.Equal(0x62a8ab43u, TensorBoardFile.Crc32C(Enumerable.Repeat((byte)0xff, 32).ToArray()));
        Assert.Equal(0x46dd794eu, TensorBoardFile.Crc32C([.. Enumerable.Range(0, 32).Select(i => (byte)i)]));
        Assert.Equal(0x113fdb5cu, TensorBoardFile.Crc32C([.. Enumerable.Range(0, 32).Select(i => (byte)(31 - i))]));
        Assert.Equal(0xe3069283u, TensorBoardFile.Crc32C("123456789"u8));
        Assert.Equal(0u, TensorBoardFile.Crc32C([]));
        for (int n = 0; n < 40; n++)
        {
            byte[] bytes = [.. Enumerable.Range(0, n).Select(i => (byte)(i * 37))];
            Assert.Equal(Bitwise(bytes), TensorBoardFile.Crc32C(bytes));
            uint crc = Bitwise(bytes);
            Assert.Equal(unchecked(((crc >> 15) | (crc << 17)) + 0xa282ead8u), TensorBoardFile.MaskedCrc(bytes));
        }
    }

    [Fact]
    public void TheFirstRecordIsTheVersionByteForByte()
    {
        string path = Path.Combine(_folder, "events");
        var clock = new FixedClock(DateTimeOffset.UnixEpoch.AddSeconds(1.5));
        new TensorBoardFile(path, 0, clock).Dispose();
        byte[] data = [0x09, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 0x1a, 13, .. "brain.Event:2"u8];
        byte[] length = [24, 0, 0, 0, 0, 0, 0, 0];
        Assert.Equal(24, data.Length);
        // a3 7f 4b 22 is how every TensorBoard file whose first event has 24 bytes goes on.
        Assert.Equal([.. length, 0xa3, 0x7f, 0x4b, 0x22, .. data, .. Masked(data)], File.ReadAllBytes(path));
    }

    [Fact]
    public void ScalarsAreReadBack()
    {
        string path = Path.Combine(_folder, "events");
        var clock = new FixedClock(DateTimeOffset.UnixEpoch.AddSeconds(1_700_000_000.25));
        EventTag loss = new("train/loss"), rate = new("é");
        long offset;
        using (var file = new TensorBoardFile(path, 0, clock))
        {
            Write(file, 1, 0.5);
            offset = file.Offset;
            Write(file, 2, 0.25);
        }
        using (var file = new TensorBoardFile(path, offset, clock))
        {
            Write(file, 1L << 40, double.NaN);
        }
        List<Event> events = Read(File.ReadAllBytes(path));
        Assert.Equal("brain.Event:2", events[0].Version);
        Assert.All(events, e => Assert.Equal(1_700_000_000.25, e.WallTime));
        Assert.Equal([0, 1, 1L << 40], events.Select(e => e.Step));
        Assert.Equal([("train/loss", 0.5f), ("é", 1e-3f)], events[1].Scalars);
        Assert.Equal([("é", 1e-3f)], events[2].Scalars);

        void Write(TensorBoardFile file, long step, double value)
        {
            file.Begin(step);
            file.Scalar(loss, value);
            file.Scalar(rate, 1e-3);
            file.End();
        }
    }

    internal static List<Event> Read(byte[] bytes)
    {
        var events = new List<Event>();
        ReadOnlySpan<byte> rest = bytes;
        while (rest.Length > 0)
        {
            int length = (int)BinaryPrimitives.ReadUInt64LittleEndian(rest);
            Assert.Equal(Masked(rest[..8].ToArray()), rest.Slice(8, 4).ToArray());
            byte[] data = rest.Slice(12, length).ToArray();
            Assert.Equal(Masked(data), rest.Slice(12 + length, 4).ToArray());
            events.Add(ReadEvent(data));
            rest = rest[(length + 16)..];
        }
        return events;
    }

    private static Event ReadEvent(byte[] data)
    {
        double wall = 0;
        long step = 0;
        string? version = null;
        var scalars = new List<(string, float)>();
        foreach ((int field, byte[] value) in Fields(data))
        {
            switch (field)
            {
                case 1:
                    wall = BitConverter.ToDouble(value);
                    break;
                case 2:
                    step = BitConverter.ToInt64(value);
                    break;
                case 3:
                    version = Encoding.UTF8.GetString(value);
                    break;
                case 5:
                    foreach ((_, byte[] entry) in Fields(value))
                    {
                        List<(int Field, byte[] Value)> parts = Fields(entry);
                        scalars.Add((Encoding.UTF8.GetString(parts.Single(p => p.Field == 1).Value), BitConverter.ToSingle(parts.Single(p => p.Field == 2).Value)));
                    }
                    break;
                default:
                    Assert.Fail($"field {field}");
                    break;
            }
        }
        return new Event(wall, step, version, scalars);
    }

    private static List<(int Field, byte[] Value)> Fields(byte[] message)
    {
        var fields = new List<(int, byte[])>();
        for (int at = 0; at < message.Length;)
        {
            long key = Varint(message, ref at);
            byte[] value;
            switch (key & 7)
            {
                case 0:
                    value = BitConverter.GetBytes(Varint(message, ref at));
                    break;
                case 1:
                    value = message[at..(at += 8)];
                    break;
                case 2:
                    int length = (int)Varint(message, ref at);
                    value = message[at..(at += length)];
                    break;
                default:
                    value = message[at..(at += 4)];
                    break;
            }
            fields.Add(((int)(key >> 3), value));
        }
        return fields;
    }

    private static long Varint(byte[] bytes, ref int at)
    {
        long value = 0;
        for (int shift = 0; ; shift += 7)
        {
            byte b = bytes[at++];
            value |= (long)(b & 0x7f) << shift;
            if (b < 0x80)
                return value;
        }
    }

    private static byte[] Masked(byte[] data)
    {
        uint crc = Bitwise(data);
        return BitConverter.GetBytes(unchecked(((crc >> 15) | (crc << 17)) + 0xa282ead8u));
    }

    // Polynomial 0x1EDC6F41, reflected, a bit at a time.
    private static uint Bitwise(byte[] data)
    {
        uint crc = uint.MaxValue;
        foreach (byte b in data)
        {
            crc ^= b;
            for (int i = 0; i < 8; i++)
                crc = (crc >> 1) ^ ((crc & 1) * 0x82f63b78);
        }
        return ~crc;
    }

    private sealed class FixedClock(DateTimeOffset now) : TimeProvider
    {
        public override DateTimeOffset GetUtcNow() => now;
    }
}
