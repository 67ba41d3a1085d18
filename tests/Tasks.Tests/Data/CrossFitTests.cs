using System.Text;
using IptNative.Tasks.Data;
using Xunit;

namespace IptNative.Tasks.Tests.Data;

public sealed class CrossFitTests
{
    [Fact]
    public void LinesEndAtNewlinesOnlyAndAnswersMayBeSeveral()
    {
        using var file = new TemporaryFile("a stray\r return\u2028and separator\tx\n b \ty\tz \r\nlast\tno newline");
        List<TaskExample> examples = CrossFitReader.Read(file.Path);
        Assert.Equal(["a stray\r return\u2028and separator", "b ", "last"], examples.Select(e => e.Input));
        Assert.Equal([["x"], ["y", "z"], ["no newline"]], examples.Select(e => e.Answers));
        Assert.Equal("y", examples[1].Target);
    }

    [Theory]
    [InlineData("a\tb\nno tab here\n", "line 2: no tab in \"no tab here\"; expected input TAB answer")]
    [InlineData("a\tb\n\tc\n", "line 2: the input is empty")]
    [InlineData("a\tb\t\n", "line 1: answer 2 is empty")]
    [InlineData("a\t \n", "line 1: answer 1 is empty")]
    [InlineData("a\tb\n\nc\td\n", "line 2: the line is empty")]
    [InlineData("a\tb\r\nc\td\r\n", "every line ends in \\r\\n (Windows line ends)")]
    [InlineData("", "holds 0 examples")]
    [InlineData("\uFEFFa\tb\n", "starts with a byte order mark")]
    public void WhatIsWrongIsNamed(string text, string message)
    {
        using var file = new TemporaryFile(text);
        InvalidDataException e = Assert.Throws<InvalidDataException>(() => CrossFitReader.Read(file.Path));
        Assert.Contains(message, e.Message, StringComparison.Ordinal);
        Assert.Contains(file.Path, e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void BytesThatAreNoUtf8AreNamed()
    {
        using var file = new TemporaryFile([.. "good\tline\nbad \t"u8, 0xE9, .. "\n"u8]);
        Assert.Contains("line 2: byte 0xE9 at column 5 is not UTF-8", Assert.Throws<InvalidDataException>(() => CrossFitReader.Read(file.Path)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void NamesAreTakenApart()
    {
        Assert.Equal(new CrossFitFileName("ade_corpus_v2-dosage", 32, 100, "dev"), CrossFitFileName.Parse("/x/ade_corpus_v2-dosage_32_100_dev.tsv"));
        Assert.Equal("a_b_16_13_test.tsv", CrossFitFileName.Parse("a_b_16_13_test.tsv")!.ToString()); // parses
        Assert.Null(CrossFitFileName.Parse("task_16_test.tsv"));
        Assert.Null(CrossFitFileName.Parse("task_16_13_valid.tsv"));
        Assert.Null(CrossFitFileName.Parse("task_9999999999_13_dev.tsv"));
    }

    [Fact]
    public void AFolderIsLoadedBySeedWithTheOneTestFile()
    {
        using var file = new TemporaryFile("i\to\n", "t_1_100_train.tsv");
        File.WriteAllText(Path.Combine(file.Folder, "t_1_100_dev.tsv"), "d\to\n");
        File.WriteAllText(Path.Combine(file.Folder, "t_1_13_test.tsv"), "e\to\n");
        CrossFitTask task = CrossFitTask.Load(file.Folder, 100);
        Assert.Equal(("t", "i", "d", "e"), (task.Name, task.Train[0].Input, task.Dev[0].Input, task.Test[0].Input));
        InvalidDataException e = Assert.Throws<InvalidDataException>(() => CrossFitTask.Load(file.Folder, 13));
        Assert.Contains("0 files for split train of seed 13; expected 1. There are: t_1_100_train.tsv", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AHugeLineIsNoTrouble()
    {
        using var file = new TemporaryFile(new StringBuilder().Append('x', 2_000_000).Append("\ty\n").ToString());
        Assert.Equal(2_000_000, CrossFitReader.Read(file.Path)[0].Input.Length);
    }
}
