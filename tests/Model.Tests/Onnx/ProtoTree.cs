// A protobuf message taken apart and put together again, so that tests can make the exports that the fixture is not.
using IptNative.Model.Onnx.Graph;

namespace IptNative.Model.Tests.Onnx;

/// <summary>One field: a number, or bytes that may be a message.</summary>
internal sealed record ProtoField(int Field, long Number, byte[]? Bytes)
{
    public static ProtoField Of(int field, long number) => new(field, number, null);

    public static ProtoField Of(int field, string text) => new(field, 0, System.Text.Encoding.UTF8.GetBytes(text));

    public static ProtoField Of(int field, params ReadOnlySpan<ProtoField> message) => new(field, 0, ProtoTree.Write(message));

    public string Text => System.Text.Encoding.UTF8.GetString(Bytes!);
}

/// <summary>Models as lists of fields.</summary>
internal static class ProtoTree
{
    public static List<ProtoField> Read(byte[] message)
    {
        var fields = new List<ProtoField>();
        int at = 0;
        while (at < message.Length)
        {
            long key = Varint();
            long value = Varint();
            if ((key & 7) == 0)
            {
                fields.Add(ProtoField.Of((int)(key >> 3), value));
                continue;
            }
            if ((key & 7) != 2)
                throw new InvalidOperationException("this test helper reads numbers and bytes only");
            fields.Add(new((int)(key >> 3), 0, message[at..(at + (int)value)]));
            at += (int)value;
        }
        return fields;

        long Varint()
        {
            long n = 0;
            for (int shift = 0; ; shift += 7)
            {
                byte b = message[at++];
                n |= (long)(b & 0x7f) << shift;
                if (b < 0x80)
                    return n;
            }
        }
    }

    public static byte[] Write(params ReadOnlySpan<ProtoField> fields)
    {
        var writer = new ProtobufWriter();
        foreach (ProtoField f in fields)
        {
            if (f.Bytes is null)
                writer.Integer(f.Field, f.Number);
            else
                writer.Bytes(f.Field, f.Bytes);
        }
        return writer.Written.ToArray();
    }

    /// <summary>Rewrites the graph (ModelProto field 7).</summary>
    public static byte[] EditGraph(byte[] model, Func<List<ProtoField>, IEnumerable<ProtoField>> edit) =>
        Write([.. Read(model).Select(f => f.Field == 7 ? f with { Bytes = Write([.. edit(Read(f.Bytes!))]) } : f)]);

    /// <summary>Rewrites every initialiser of the graph (GraphProto field 5).</summary>
    public static byte[] EditTensors(byte[] model, Func<List<ProtoField>, IEnumerable<ProtoField>> edit) =>
        EditGraph(model, graph => graph.Select(f => f.Field == 5 ? f with { Bytes = Write([.. edit(Read(f.Bytes!))]) } : f));

    public static string Name(this List<ProtoField> tensor) => tensor.Single(f => f.Field == 8).Text;
}
