using IptNative.Tasks.Casting;
using IptNative.Tasks.Data;
using Xunit;

namespace IptNative.Tasks.Tests.Data;

public sealed class JsonLinesReaderTests
{
    private static List<TaskExample> Read(string text, string input = "question: {q} context: {c}", string answer = "{a}")
    {
        using var file = new TemporaryFile(text, "data.jsonl");
        return JsonLinesReader.Read(file.Path, new TextTemplate(input), new TextTemplate(answer));
    }

    [Fact]
    public void TemplatesReachIntoRecords()
    {
        List<TaskExample> examples = Read("{\"q\":\"why {x}?\",\"c\":{\"text\":\"line\\nbreak\"},\"a\":[\"one\",\"two\"]}\n{\"q\":3.50,\"c\":{\"text\":true},\"a\":7}\n", "q: {q} {{c}}: {c.text}");
        Assert.Equal("q: why {x}? {c}: line\nbreak", examples[0].Input);
        Assert.Equal(["one", "two"], examples[0].Answers);
        Assert.Equal("q: 3.50 {c}: true", examples[1].Input);
        Assert.Equal(["7"], examples[1].Answers);
    }

    [Fact]
    public void ArraysInATextAreJoined()
    {
        TaskExample example = Read("{\"q\":[\"x\",\"y\"],\"c\":\"z\",\"a\":[\"1\",\"2\"]}\n", answer: "{a}!")[0];
        Assert.Equal("question: x, y context: z", example.Input);
        Assert.Equal(["1, 2!"], example.Answers);
    }

    [Theory]
    [InlineData("{\"q\":\"x\",\"c\":\"y\"}\n", "line 1: no field \"a\"; the record has \"q\", \"c\"")]
    [InlineData("{\"q\":null,\"c\":\"y\",\"a\":1}\n", "line 1: field \"q\" is null; expected a text, a number or true/false")]
    [InlineData("{\"q\":1,\"c\":2,\"a\":[]}\n", "line 1: field \"a\" is an empty array")]
    [InlineData("{\"q\":1,\"c\":2,\"a\":\" \"}\n", "line 1: an answer is empty")]
    [InlineData("[1]\n", "line 1: holds a JSON array; expected an object")]
    [InlineData("{\"q\":1,\"c\":2,\"a\":3}\n{\n", "line 2: no JSON (")]
    [InlineData("{\"q\":\"\\ud800\",\"c\":2,\"a\":3}\n", "line 1: a text has half a surrogate pair")]
    [InlineData("", "holds 0 examples")]
    public void WhatIsWrongIsNamed(string text, string message) =>
        Assert.Contains(message, Assert.Throws<InvalidDataException>(() => Read(text)).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData("a {b", "the brace at column 3 names no field")]
    [InlineData("a { }", "the brace at column 3 names no field")]
    [InlineData("a } b", "the brace at column 3 closes nothing")]
    public void BadTemplatesAreNamed(string template, string message) =>
        Assert.Contains(message, Assert.Throws<ArgumentException>(() => new TextTemplate(template)).Message, StringComparison.Ordinal);

    [Fact]
    public void FieldsAreListed() => Assert.Equal(["a", "b.c"], new TextTemplate("{a} {{x}} { b.c }").Fields);

    [Fact]
    public void KnownTasksReadTheirOwnRecords()
    {
        using var file = new TemporaryFile("{\"sentence\":\"fine film\",\"label\":1,\"idx\":0}\n", "sst2.jsonl");
        TaskExample example = JsonLinesReader.Read(file.Path, TaskCasting.Get("sst2"), forTraining: true)[0];
        Assert.Equal(("sentence: fine film", "positive"), (example.Input, example.Target));
    }
}
